"""The ledger keeps what was reserved, whatever becomes of the process that reserved it."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import ledger
from bench.ledger import STEP, Ledger, LedgerFull
from bench.outcome import Outcome


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
    assert book.capacity == STEP
    book.status[0] = book.status[STEP - 1] = Outcome.OK
    book.ensure(STEP - 1)
    assert book.capacity == STEP  # the last byte of the first step needs no growth
    book.ensure(STEP)
    assert book.capacity == 2 * STEP
    book.status[STEP] = Outcome.RESERVED
    book.ensure(5 * STEP + 1)
    assert book.capacity == 6 * STEP
    book.status[5 * STEP + 1] = Outcome.FAIL
    book.close(5 * STEP + 2)
    status = ledger.load(folder, 0)
    assert len(status) == 5 * STEP + 2
    assert {n: int(status[n]) for n in np.flatnonzero(status)} == {0: 2, STEP - 1: 2, STEP: 1, 5 * STEP + 1: 3}


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


@pytest.mark.parametrize("commits", [3, STEP + 5])
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


# A full disk


def test_its_blocks_are_on_the_disk_before_they_are_touched(folder: Path) -> None:
    """A hole that finds no room when it is touched would be a SIGBUS."""
    path = ledger.path_of(folder, 0)
    book = Ledger(path)
    assert path.stat().st_blocks * 512 >= STEP
    book.ensure(3 * STEP)
    assert path.stat().st_blocks * 512 >= 4 * STEP
    book.close(1)


_FULL = """
import errno, sys
from pathlib import Path
from bench.ledger import STEP, Ledger, LedgerFull, path_of
folder = Path(sys.argv[1])
(folder / "ledger").mkdir()
books = []
try:
    for writer in range(100):
        books.append(Ledger(path_of(folder, writer)))
except LedgerFull as error:
    assert error.errno == errno.ENOSPC
    assert error.filename == str(path_of(folder, len(books)))
for book in books:
    book.status[:] = bytes([2]) * STEP
try:
    books[0].ensure(STEP)
    print("it grew", end="")
except LedgerFull:
    print(len(books), books[0].capacity == len(books[0].status) == STEP, end="")
books.pop().close(0)
books[0].ensure(STEP)
books[0].status[STEP:] = bytes([3]) * STEP
assert books[0].status[: STEP + 1] == bytes([2]) * STEP + bytes([3])
"""
_SMALL_DISK = 'mount -t tmpfs -o size=512k none "$1" && exec "$2" -c "$3" "$1"'


def _no_disk_of_our_own() -> str | None:
    """Why no small disk can be mounted where nobody else sees it; None where it can."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return "needs root and unshare, for a small disk"
    done = subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True, text=True)
    return None if done.returncode == 0 else f"no mount namespace: {done.stderr.strip()}"


def test_a_full_disk_is_an_error_and_no_signal(tmp_path: Path) -> None:
    """With holes in place of blocks the process ends by SIGBUS, with the first byte that finds no room."""
    if reason := _no_disk_of_our_own():
        pytest.skip(reason)
    words = ["unshare", "-m", "sh", "-c", _SMALL_DISK, "sh", str(tmp_path), sys.executable, _FULL]
    done = subprocess.run(words, timeout=60, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout in ("7 True", "8 True")  # of 64 KiB each; a folder may take a page
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL, None])
def test_zeros_are_written_where_nothing_can_be_reserved(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int | None
) -> None:
    """Some file systems can't reserve blocks, and some systems have no call for it."""

    def unable(*_: int) -> None:
        raise OSError(number, "unable")

    written = []

    def little(descriptor: int, data: bytes, offset: int) -> int:
        written.append((offset, len(data)))
        return write(descriptor, data[:40_000], offset)

    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", little)
    if number is None:
        monkeypatch.delattr(os, "posix_fallocate")
    else:
        monkeypatch.setattr(os, "posix_fallocate", unable)
    path = ledger.path_of(folder, 0)
    book = Ledger(path)
    book.status[0] = Outcome.OK
    book.ensure(STEP)
    assert written == [(0, STEP), (40_000, 25_536), (STEP, STEP), (STEP + 40_000, 25_536)]
    assert path.stat().st_blocks * 512 >= 2 * STEP
    assert book.status[:] == bytes([Outcome.OK]) + bytes(2 * STEP - 1)
    book.close(1)


def test_what_goes_wrong_at_the_disk_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: int) -> None:
        raise OSError(errno.EDQUOT, "quota")

    monkeypatch.setattr(os, "posix_fallocate", broken)
    with pytest.raises(LedgerFull, match=r"quota.*0003\.bin") as caught:
        Ledger(ledger.path_of(folder, 3))
    assert caught.value.errno == errno.EDQUOT


def test_what_was_loaded_outlives_its_file(folder: Path) -> None:
    """A load process that was given up may still cut its file; a mapped page would be a SIGBUS then."""
    path = ledger.path_of(folder, 0)
    path.write_bytes(bytes([2]) * 10_000)
    status = ledger.load(folder, 0)
    os.truncate(path, 0)
    assert int(status.sum()) == 20_000
