"""Power cuts under SQLite: what each setting keeps, and that the experiment finds what is planted in it."""
# ruff: noqa: N802 -- the methods of a VFS have SQLite's names

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import apsw
import pytest
from power_cuts import COMMITS, MEMORY, SEED, cut, recorded, template

from bench.errors import BadInput
from bench.faults.power import PowerLoss, lose_power
from bench.faults.power.disk import Disk, Lose
from bench.faults.power.experiment import CHECK, READABLE, Stopped
from bench.faults.power.session import DATABASE
from bench.faults.power.vfs import DiskVfs, OpenFile
from bench.outcome import Outcome
from bench.servers import places

LOST, BROKEN, UNREADABLE = "lost", "broken", "unreadable"
BOTH: tuple[Lose, Lose] = ("contents", "directory")


def damage(result: PowerLoss) -> set[str]:
    return {one.damage for one in result.damaged}


def most_lost(result: PowerLoss) -> int:
    return max((one.integrity.lost for one in result.damaged), default=0)


# What each setting keeps


@pytest.mark.parametrize("lose", BOTH)
@pytest.mark.parametrize("settings", [("delete", "extra"), ("wal", "full")])
def test_settings_that_keep_everything(settings, lose):
    result = cut(recorded(*settings), lose)
    assert result.said.endswith("nothing acknowledged was lost")
    assert damage(result) == set()
    assert not result.integrity.broken
    assert result.cuts == len(recorded(*settings).log) > 10 * COMMITS
    assert result.integrity.acknowledged == COMMITS + 2  # with the runs, at the last cut


def test_rollback_journal_and_full_keep_everything_when_contents_are_lost():
    result = cut(recorded("delete", "full"), "contents")
    assert (damage(result), result.integrity.wrong) == (set(), 0)


def test_rollback_journal_and_full_lose_the_last_commit_when_the_journal_comes_back():
    recording = recorded("delete", "full")
    result = cut(recording, "directory")
    assert damage(result) == {LOST}
    for one in result.damaged:
        done = [commit for commit in recording.commits if commit.acknowledged <= one.event]
        last = recording.layout.run_id(done[-1].writer, 0)
        step = f"'metric000{(len(done) - 1) // 2}' step 0"
        assert (one.integrity.lost, one.integrity.wrong) == (1, 1)
        assert last in one.said
        assert step in one.said
    first = result.damaged[0]
    assert first.event == recording.commits[0].acknowledged
    assert first.said.startswith(
        f"power cut after event {first.event} (delete mlflow.db-journal), nothing unsynced survived, "
        "no unsynced directory entry: 1 of 3 acknowledged rows absent"
    )


@pytest.mark.parametrize("lose", BOTH)
def test_wal_and_normal_lose_commits_up_to_the_last_checkpoint_and_break_nothing(lose):
    result = cut(recorded("wal", "normal"), lose)
    assert damage(result) == {LOST}
    assert most_lost(result) == COMMITS - COMMITS // 2
    assert result.worst is not None
    assert result.worst.integrity.invariants[CHECK] == 0


@pytest.mark.parametrize("settings", [("delete", "off"), ("wal", "off"), ("memory", "extra"), ("off", "extra")])
def test_settings_that_break_the_file(settings):
    result = cut(recorded(*settings), "contents")
    assert damage(result) & {BROKEN, UNREADABLE}
    assert result.integrity.broken
    assert "found damage after" in result.examined


# name, synchronous: what contents and what directory entries may cost
FOUND: dict[tuple[str, str], tuple[set[str], set[str]]] = {
    ("delete", "full"): (set(), {LOST}),
    ("delete", "extra"): (set(), set()),
    ("truncate", "full"): (set(), set()),
    ("truncate", "extra"): (set(), set()),
    ("persist", "full"): (set(), set()),
    ("persist", "extra"): (set(), set()),
    ("wal", "normal"): ({LOST}, {LOST}),
    ("wal", "full"): (set(), set()),
    ("wal", "extra"): (set(), set()),
}
NEVER_SAFE = [(journal, "off") for journal in ("delete", "truncate", "persist", "wal")]
NEVER_SAFE += [(journal, how) for journal in ("memory", "off") for how in ("off", "normal", "full", "extra")]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(("settings", "costs"), FOUND.items())
def test_the_table_of_settings(settings, costs, seed):
    recording = recorded(*settings, commits=12, seed=seed)
    for lose, cost in zip(BOTH, costs, strict=True):
        assert damage(cut(recording, lose, seed=seed)) == cost


@pytest.mark.slow
@pytest.mark.parametrize("settings", NEVER_SAFE)
def test_the_settings_that_are_never_safe(settings):
    recording = recorded(*settings, commits=12)
    assert all(damage(cut(recording, lose)) & {BROKEN, UNREADABLE} for lose in BOTH)


@pytest.mark.slow
@pytest.mark.parametrize("journal", ["delete", "truncate", "persist"])
def test_a_rollback_journal_that_is_synced_once_can_break_the_file(journal):
    """The number of its pages may be there before the pages are, and their checksums see only every 200th byte."""
    assert damage(cut(recorded(journal, "normal", commits=12), "contents")) & {BROKEN, UNREADABLE}


# The experiment can fail, and can pass


class DeafFile(OpenFile):
    def xSync(self, flags: int) -> None:
        pass


class Deaf(DiskVfs):
    """Syncs that do nothing."""

    opened = DeafFile


class NoEntries(DiskVfs):
    """The first sync of a journal leaves the directory alone."""

    def xOpen(self, name: Any, flags: list[int]) -> OpenFile:
        file = super().xOpen(name, flags)
        file._sync_entry = False
        return file


class NoDeletions(DiskVfs):
    """Deletions are never synced, whatever SQLite asks for."""

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, False)


class Eager(Disk):
    """Everything is durable at once."""

    def do(self, event: Any) -> None:
        super().do(event)
        self._before.clear()
        for file in self.files:
            file.sync()


@pytest.mark.parametrize("settings", [("delete", "full"), ("wal", "full")])
def test_a_vfs_that_does_not_sync_loses_what_full_keeps(settings):
    result = cut(recorded(*settings, vfs=Deaf), "contents")
    assert most_lost(result) >= COMMITS
    assert result.integrity.broken


def test_a_vfs_that_does_not_sync_the_journals_entry_breaks_what_extra_keeps():
    assert damage(cut(recorded("delete", "extra", vfs=NoEntries), "directory")) & {BROKEN, UNREADABLE}
    assert damage(cut(recorded("delete", "extra", vfs=NoEntries), "contents")) == set()


def test_a_vfs_that_does_not_sync_deletions_loses_what_extra_keeps():
    assert damage(cut(recorded("delete", "extra", vfs=NoDeletions), "directory")) == {LOST}


@pytest.mark.parametrize("settings", [("delete", "off"), ("delete", "full"), ("wal", "normal")])
def test_a_disk_that_keeps_everything_at_once_loses_nothing(settings):
    for lose in BOTH:
        assert damage(cut(recorded(*settings), lose, Eager)) == set()


def tampered(change: Callable[[Path], None]) -> type[Disk]:
    """A disk that changes the database when the power is cut, where it lies there alone."""

    class Tampered(Eager):
        def after_cut(self, survival: Any, rng: Any) -> dict[str, bytes]:
            found = super().after_cut(survival, rng)
            if len(found) == 1:
                with TemporaryDirectory(dir=MEMORY) as folder:
                    path = Path(folder, DATABASE)
                    path.write_bytes(found[DATABASE])
                    change(path)
                    found[DATABASE] = path.read_bytes()
            return found

    return Tampered


def by(statement: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with closing(sqlite3.connect(path)) as db, db:
            db.execute(statement)

    return change


def miscount_free_pages(path: Path) -> None:
    contents = bytearray(path.read_bytes())
    contents[39] += 1  # the lowest byte of their number, in the file's header
    path.write_bytes(contents)


ONE = "WHERE rowid = (SELECT max(rowid) FROM {})"
COLUMNS = "(key, value, timestamp, step, is_nan, run_uuid)"
FORGED = f"INSERT INTO metrics {COLUMNS} SELECT key, value, timestamp, step + 900, is_nan, run_uuid FROM metrics {ONE}"
PLANTED = [
    ("lost", by("DELETE FROM metrics " + ONE.format("metrics")), BROKEN),
    ("corrupted", by("UPDATE metrics SET timestamp = timestamp + 1 " + ONE.format("metrics")), BROKEN),
    ("unexpected", by(FORGED.format("metrics")), BROKEN),
    ("latest_metrics is the maximum", by("DELETE FROM latest_metrics " + ONE.format("latest_metrics")), BROKEN),
    ("no row without its run", by("DELETE FROM runs"), BROKEN),
    (CHECK, miscount_free_pages, BROKEN),
    (READABLE, lambda path: path.write_bytes(b"no database" * 1000), UNREADABLE),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "worst"), PLANTED, ids=[name for name, _, _ in PLANTED])
def test_what_is_planted_is_found_and_named(name, change, worst):
    result = cut(recorded("delete", "full"), "contents", tampered(change))
    assert result.worst is not None
    assert result.worst.damage == worst
    found = result.worst.integrity
    assert found.invariants.get(name) or getattr(found, name, 0)


# The ledger


def test_what_the_ledger_says_at_each_cut():
    recording = recorded("delete", "full", commits=4)
    first, second = recording.commits[:2]
    assert (first.begun, first.writer, second.writer) == (0, 0, 1)
    assert first.acknowledged == second.begun

    def ledgers(event: int) -> list[list[int]]:
        return [status.tolist() for status in recording.expected(event).statuses]

    untouched, reserved, ok = Outcome.UNTOUCHED, Outcome.RESERVED, Outcome.OK
    assert ledgers(first.acknowledged - 1) == [[reserved, untouched], [untouched, untouched]]
    assert ledgers(first.acknowledged) == [[ok, untouched], [untouched, untouched]]
    assert ledgers(first.acknowledged + 1) == [[ok, untouched], [reserved, untouched]]
    assert ledgers(len(recording.log)) == [[ok, ok], [ok, ok]]


# How it is called


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """Where scratch folders are made; nobody else makes any here."""
    monkeypatch.setattr(places, "temp_root", lambda: tmp_path)
    return tmp_path


def test_the_result_says_what_was_done_and_leaves_nothing_behind(temporary, tmp_path_factory):
    file = template(tmp_path_factory.mktemp("template"))
    pragmas = {"journal_mode": "WAL", "synchronous": "NORMAL", "busy_timeout": "1000"}
    found = [lose_power("contents", file, pragmas, SEED, commits=2) for _ in range(2)]
    assert found[0] == found[1]
    result = found[0]
    assert (result.settings["journal_mode"], result.settings["synchronous"]) == ("wal", "1")
    assert (result.written_by, result.opened_by) == (apsw.sqlite_lib_version(), sqlite3.sqlite_version)
    assert result.commits == 2
    assert result.said.startswith(f"{result.cuts} power cuts in 2 commits that took unsynced contents")
    assert result.said.endswith(f": {len(result.damaged)} lost")
    assert result.examined.endswith("nothing wrong")
    assert result.integrity.examples[0] == result.worst.said
    assert list(temporary.iterdir()) == []


def test_a_thread_can_be_stopped(temporary):
    file, stopped = template(temporary), threading.Event()
    stopped.set()
    with pytest.raises(Stopped):
        lose_power("contents", file, {}, SEED, stopped=stopped)
    assert list(temporary.iterdir()) == [file]


@pytest.mark.parametrize("pragmas", [{"no_such_thing": "1"}, {"journal_mode": "wall"}])
def test_a_setting_that_sqlite_does_not_take_is_refused(pragmas, tmp_path):
    with pytest.raises(BadInput, match=r"session setting (no_such_thing|journal_mode) = "):
        lose_power("contents", template(tmp_path), pragmas, SEED)
