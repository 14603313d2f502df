"""A run that has no room for its next trial says so itself; what fills up is nobody else's fault."""

import errno
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from bench import run_folder

MIB = 1 << 20


class Usage(NamedTuple):
    free: int


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "trials").mkdir()
    return tmp_path


def trial(folder: Path, number: int, size: int) -> None:
    """A finished trial whose samples take so many bytes."""
    (folder / "trials" / f"{number:04d}").mkdir()
    (folder / "trials" / f"{number:04d}" / "samples.parquet").write_bytes(bytes(size))


def has_room(folder: Path, free: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    asked = []

    def usage(place: Path) -> Usage:
        asked.append(place)
        return Usage(free)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    full: OSError | None = None
    try:
        run_folder.check_room(folder)
    except OSError as error:
        full = error
    assert asked == [folder]
    assert full is None or (full.errno, full.filename) == (errno.ENOSPC, str(folder))
    return full is None


def test_eight_mib_are_enough_to_begin_with(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for trials in (True, False):
        assert has_room(folder, 8 * MIB, monkeypatch)
        assert not has_room(folder, 8 * MIB - 1, monkeypatch)
        if trials:
            (folder / "trials").rmdir()


def test_the_next_trial_may_be_like_the_largest_so_far(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it runs its samples take more room than in the end."""
    for number, size in enumerate((100, 3 * MIB, MIB), start=1):
        trial(folder, number, size)
    assert has_room(folder, 12 * MIB, monkeypatch)
    assert not has_room(folder, 12 * MIB - 1, monkeypatch)


def test_small_trials_ask_for_no_more(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial(folder, 1, 2 * MIB)
    assert has_room(folder, 8 * MIB, monkeypatch)


def test_a_trial_in_flight_has_no_samples_yet(folder: Path) -> None:
    (folder / "trials" / "0001").mkdir()
    run_folder.check_room(folder)
