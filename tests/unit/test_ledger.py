"""The ledger keeps what was reserved, whatever becomes of the process that reserved it."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import ledger
from bench.ledger import Ledger
from bench.outcome import Outcome

MIB = 1 << 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ledger").mkdir()
    return tmp_path


def test_each_writer_has_a_file_of_its_own(tmp_path: Path) -> None:
    paths = [ledger.path_of(tmp_path, writer) for writer in (0, 7, 999, 12345)]
    assert [path.name for path in paths] == ["0000.bin", "0007.bin", "0999.bin", "12345.bin"]
    assert {path.parent for path in paths} == {tmp_path / "ledger"}


def test_what_was_written_is_loaded(folder: Path) -> None:
    book = Ledger(ledger.path_of(folder, 2))
    for commit, status in enumerate((Outcome.OK, Outcome.FAIL, Outcome.INFO, Outcome.UNTOUCHED, Outcome.RESERVED)):
        book.status[commit] = status
    book.close(5)
    assert ledger.path_of(folder, 2).stat().st_size == 5
    assert ledger.load(folder, 2).tolist() == [2, 3, 4, 0, 1]


def test_a_writer_that_never_wrote_has_an_empty_ledger(folder: Path) -> None:
    assert len(ledger.load(folder, 0)) == 0
    Ledger(ledger.path_of(folder, 1)).close(0)
    assert ledger.path_of(folder, 1).stat().st_size == 0
    assert len(ledger.load(folder, 1)) == 0


def test_it_grows_and_keeps_what_it_holds(folder: Path) -> None:
    book = Ledger(ledger.path_of(folder, 0))
    assert book.capacity == MIB
    book.status[0] = book.status[MIB - 1] = Outcome.OK
    book.ensure(MIB - 1)
    assert book.capacity == MIB  # the last byte of the first MiB needs no growth
    book.ensure(MIB)
    assert book.capacity == 2 * MIB
    book.status[MIB] = Outcome.RESERVED
    book.ensure(5 * MIB + 1)
    assert book.capacity == 6 * MIB
    book.status[5 * MIB + 1] = Outcome.FAIL
    book.close(5 * MIB + 2)
    status = ledger.load(folder, 0)
    assert len(status) == 5 * MIB + 2
    assert {n: int(status[n]) for n in np.flatnonzero(status)} == {0: 2, MIB - 1: 2, MIB: 1, 5 * MIB + 1: 3}


_VICTIM = """
import os, signal, sys
from pathlib import Path
from bench.ledger import Ledger, path_of
from bench.outcome import Outcome
book = Ledger(path_of(Path(sys.argv[1]), 0))
for commit in range(int(sys.argv[2])):
    book.ensure(commit)
    book.status[commit] = Outcome.RESERVED
    book.status[commit] = Outcome.OK
book.ensure(commit + 1)
book.status[commit + 1] = Outcome.RESERVED
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("commits", [3, MIB + 5])
def test_a_killed_process_leaves_its_open_commit_reserved(folder: Path, commits: int) -> None:
    done = subprocess.run([sys.executable, "-c", _VICTIM, str(folder), str(commits)], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert ledger.path_of(folder, 0).stat().st_size > commits + 1  # nobody was there to cut the file
    status = ledger.load(folder, 0)
    assert len(status) == commits + 1
    assert (status[:-1] == Outcome.OK).all()
    assert status[-1] == Outcome.RESERVED


def test_load_trims_only_the_untouched_tail(folder: Path) -> None:
    ledger.path_of(folder, 0).write_bytes(bytes([0, 2, 0, 0, 3, 0, 0, 0]))
    assert ledger.load(folder, 0).tolist() == [0, 2, 0, 0, 3]
    ledger.path_of(folder, 1).write_bytes(bytes(64))
    assert ledger.load(folder, 1).tolist() == []


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(list(Outcome)), max_size=50), st.integers(0, 80))
def test_complete_lengthens_with_untouched_bytes(statuses: list[Outcome], commits: int) -> None:
    status = np.array(statuses, dtype=np.uint8)
    whole = ledger.complete(status, commits)
    assert whole.dtype == np.uint8
    assert len(whole) == commits
    assert whole[: len(status)].tolist() == status[:commits].tolist()
    assert (whole[len(status) :] == Outcome.UNTOUCHED).all()
