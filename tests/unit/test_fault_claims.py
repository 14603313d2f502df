"""What settings promise about a fault, and whether that was kept: every rule with its planted case."""

from itertools import product
from typing import get_args

import pytest
from made import a_candidate, a_fault_cell, a_seen

from bench.cell import Integrity
from bench.fault_cell import STRUCTURE, FaultSeen
from bench.faults.spec import TARGETS, FaultSpec, Kind
from bench.judge.claims import AGAINST, ALLOWED, UNCHECKED, Round, crash_notes, known, may_lose, outcome, touched
from bench.results import Candidate

CRASH, POWER = "a crash may lose the last 0.6 s", "a power loss may undo the last commit"
STORES = ("sqlite", "postgresql", "timescaledb", "mysql", "mariadb")
EVERY = [
    FaultSpec(kind=kind, target=target, lose=lose)
    for kind in get_args(Kind)
    for target in TARGETS[kind]
    for lose in ("contents", "directory")
]


def loose(store: str, **settings: str) -> Candidate:
    """A candidate whose settings promise little."""
    return a_candidate("c", store, may_lose_crash=CRASH, may_lose_power=POWER, settings=settings, durable=False)


def expected(fault: FaultSpec, store: str, driver: str) -> str | None:
    library = {"direct": "load", "http": "tracking"}[driver]
    if fault.kind == "power":
        return POWER
    if store == "sqlite":
        return CRASH if fault.kind == "kill" and fault.target in ("database", library) else None
    return CRASH if fault.kind in ("kill", "disk_full") and fault.target == "database" else None


@pytest.mark.parametrize("fault", EVERY, ids=lambda one: f"{one.kind}-{one.target}-{one.lose}")
def test_which_promise_each_fault_touches(fault: FaultSpec) -> None:
    """The whole table: kinds, targets, stores and drivers."""
    for store, driver in product(STORES, ("direct", "http")):
        found = may_lose(fault, loose(store), driver)
        assert found == expected(fault, store, driver), (store, driver)
        assert (touched(fault, loose(store), driver) is None) == (found is None)
        assert may_lose(fault, a_candidate("c", store), driver) is None  # settings that promise everything


@pytest.mark.parametrize(
    ("journal", "synchronous", "contents", "directory"),
    [
        ("delete", "2", None, POWER),  # the journal's deletion alone is not synced
        ("DELETE", "2", None, POWER),
        ("truncate", "2", POWER, POWER),  # whatever its promise says, it is about something else
        ("persist", "1", POWER, POWER),
        ("delete", "1", POWER, POWER),
        ("delete", "0", POWER, POWER),
        ("wal", "1", POWER, POWER),
        ("wal", "2", POWER, POWER),
        ("memory", "2", POWER, POWER),
        ("off", "3", POWER, POWER),
        ("delete", "", POWER, POWER),  # not read back
        ("", "2", POWER, POWER),
    ],
)
def test_a_deleted_journal_comes_back_only_with_its_directory_entry(
    journal: str, synchronous: str, contents: str | None, directory: str | None
) -> None:
    mine = loose("sqlite", journal_mode=journal, synchronous=synchronous)
    assert may_lose(FaultSpec(kind="power", lose="contents"), mine, "direct") == contents
    assert may_lose(FaultSpec(kind="power", lose="directory"), mine, "direct") == directory


def test_only_sqlite_has_a_journal_that_is_deleted() -> None:
    other = loose("postgresql", journal_mode="delete", synchronous="2")
    assert may_lose(FaultSpec(kind="power", lose="contents"), other, "direct") == POWER


@pytest.mark.parametrize("durable", [True, False, None])
def test_settings_that_were_not_read_promise_nothing_that_is_known(durable: bool | None) -> None:
    candidate = a_candidate("c", "mysql", durable=durable)
    assert known(FaultSpec(kind="kill"), candidate, "direct") == (durable is not None)
    assert known(FaultSpec(kind="blackhole"), candidate, "direct")  # nothing may be lost, whatever the settings


GOOD = Integrity(checked=True, attempted=410, acknowledged=400, stored=405, invariants={"a": 0, STRUCTURE: 0})
UNREAD = Integrity(checked=False, reason="the server was gone")
LOST = GOOD.model_copy(update={"lost": 12})


def found(integrity: Integrity, may: str | None = None, known: bool = True, **changes: object) -> tuple[str, str]:
    return outcome([a_round(integrity, **changes)], may, known)


def a_round(
    integrity: Integrity, rest: Integrity | None = None, prefill: Integrity | None = None, error: str | None = None,
    **changes: object,
) -> Round:  # fmt: skip
    return Round(a_seen(**changes), [integrity, *([] if rest is None else [rest])], prefill, error)


def test_what_was_acknowledged_is_there() -> None:
    assert found(GOOD) == ("kept", "all 400 acknowledged rows are there, unchanged")
    assert found(GOOD, CRASH) == ("kept", f"nothing was lost this time; its settings allow: {CRASH}")


def test_a_loss_is_measured_against_the_promise() -> None:
    assert found(LOST, CRASH) == ("lost", f"12 of 400 acknowledged rows are gone, {ALLOWED}: {CRASH}{UNCHECKED}")
    assert found(LOST) == ("broken", f"12 of 400 acknowledged rows are gone, {AGAINST}")
    one = GOOD.model_copy(update={"lost": 1, "acknowledged": 12_345})
    assert found(one)[1].startswith("1 of 12,345 acknowledged rows is gone, ")


def test_a_loss_with_a_promise_that_is_not_known_is_no_leave() -> None:
    what, why = found(LOST, None, known=False)
    assert what == "broken"
    assert why == "12 of 400 acknowledged rows are gone; what its settings promise is not known"


@pytest.mark.parametrize("allowed", [None, CRASH])
@pytest.mark.parametrize("name", ["duplicated", "corrupted", "unexpected"])
@pytest.mark.parametrize("lost", [0, 12])
def test_what_is_more_than_a_lost_tail_is_broken(name: str, lost: int, allowed: str | None) -> None:
    what, why = found(GOOD.model_copy(update={name: 3, "lost": lost}), allowed)
    assert what == "broken"
    assert f"3 {name}" in why
    assert ("12 of 400" in why) == bool(lost)
    assert AGAINST in why
    assert (f"; they allow: {CRASH}" in why) == (allowed is not None)


@pytest.mark.parametrize("allowed", [None, CRASH])
def test_a_lost_tail_breaks_no_invariant(allowed: str | None) -> None:
    """`latest_metrics` is written in the same commit as its metrics: both are gone, or something else is wrong."""
    wrong = LOST.model_copy(update={"invariants": {"a": 0, "latest_metrics is the maximum": 2}})
    what, why = found(wrong, allowed)
    assert what == "broken"
    assert why.startswith("12 of 400 acknowledged rows are gone, latest_metrics is the maximum: 2 wrong")
    assert "a: 0" not in why


def test_damage_that_the_settings_speak_of_is_allowed_and_broken_all_the_same() -> None:
    words = "a crash may Corrupt the file"
    what, why = found(GOOD.model_copy(update={"corrupted": 3}), words)
    assert (what, why) == ("broken", f"3 corrupted, {ALLOWED}: {words}{UNCHECKED}")
    assert found(LOST, words)[0] == "lost"


def test_what_is_no_failure_is_said() -> None:
    more = {"recovered": 3, "indeterminate": 1_002, "stale": 4}
    words = (
        "; 3 of unknown outcome and there; 1,002 of unknown outcome and not there; "
        "4 missed by a read and found by a later one"
    )
    for integrity in (GOOD, LOST):
        plain, told = found(integrity, CRASH), found(integrity.model_copy(update=more), CRASH)
        assert told == (plain[0], plain[1] + words)
    assert found(GOOD.model_copy(update={"stale": 1}))[1].endswith("; 1 missed by a read and found by a later one")


UNKNOWN: dict[str, tuple[dict[str, object], str]] = {
    "not measured": ({"error": "ServerFailed: gone"}, "it could not be measured: ServerFailed: gone"),
    "unread": ({"integrity": UNREAD}, "integrity is unknown: the server was gone"),
    "unread, nobody knows why": (
        {"integrity": Integrity(checked=False)}, "integrity is unknown: the stored rows were not read back"
    ),
    "unread over REST": ({"rest": UNREAD}, "integrity is unknown: the server was gone"),
    "prefill unread": ({"prefill": UNREAD}, "integrity is unknown: the server was gone"),
    "never began": ({"begin_s": None}, "the fault never began"),
    "nothing acknowledged": (
        {"before": 0}, "no write was acknowledged before it began, so there was nothing to keep"
    ),
    "never ended": ({"end_s": None, "first_ok_s": None}, "what was broken never came back"),
    "nothing ok": ({"first_ok_s": None}, "no operation ended ok after it"),
}  # fmt: skip


@pytest.mark.parametrize("allowed", [None, CRASH])
@pytest.mark.parametrize("name", UNKNOWN)
def test_what_was_not_found_out_is_unknown(name: str, allowed: str | None) -> None:
    changes, words = UNKNOWN[name]
    assert found(**{"integrity": GOOD, "may": allowed, **changes}) == ("unknown", words)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [name for name in UNKNOWN if name not in ("unread", "unread, nobody knows why")])
@pytest.mark.parametrize("allowed", [None, CRASH])
def test_what_is_known_to_be_lost_stays_lost(name: str, allowed: str | None) -> None:
    changes = {**UNKNOWN[name][0], "integrity": LOST}
    what, why = found(**{"may": allowed, **changes})  # type: ignore[arg-type]
    began = "begin_s" not in changes
    assert what == ("lost" if allowed and began else "broken")
    assert why.startswith("12 of 400 acknowledged rows are gone")
    assert began or why.endswith("though the fault never began")  # its settings allow nothing without it


def test_a_model_has_no_load_that_goes_on() -> None:
    cut = {"modelled": True, "kind": "power", "first_ok_s": None, "end_s": None}
    assert found(GOOD, **cut)[0] == "kept"
    assert found(LOST, POWER, **cut)[0] == "lost"
    assert found(GOOD, **{**cut, "begin_s": None})[0] == "unknown"


def test_the_worse_door_is_told() -> None:
    twice = LOST.model_copy(update={"door": "rest", "lost": 14})
    for doors in ((LOST, twice), (twice, LOST)):
        assert found(doors[0], CRASH, rest=doors[1])[1].startswith("14 of 400 ")
    assert found(GOOD, CRASH, rest=twice)[0] == "lost"
    assert found(UNREAD, CRASH, rest=twice) == (
        "lost",
        f"14 of 400 acknowledged rows are gone, {ALLOWED}: {CRASH}{UNCHECKED}",
    )
    assert found(UNREAD.model_copy(update={"lost": 99}), CRASH, rest=LOST)[1].startswith("12 of 400 ")
    assert found(LOST, CRASH, rest=GOOD.model_copy(update={"corrupted": 1}))[0] == "broken"


def test_rows_of_long_ago_are_no_tail() -> None:
    """The prefill was there before the fault: no setting allows it to be lost with the last commits."""
    what, why = found(GOOD, CRASH, prefill=LOST)
    assert what == "broken"
    assert why.startswith(f"of the prefill, read after all faults, 12 of 400 acknowledged rows are gone, {AGAINST}")
    both = found(LOST, CRASH, prefill=LOST)
    assert both[1].startswith("12 of 400 acknowledged rows are gone, of the prefill, read after all faults, 12 of")


def test_the_worst_round_decides() -> None:
    kept, lost, broken = (a_round(one) for one in (GOOD, LOST, GOOD.model_copy(update={"corrupted": 1})))
    unknown = a_round(GOOD, first_ok_s=None)
    rank = {"kept": kept, "unknown": unknown, "lost": lost, "broken": broken}
    for first, second in product(rank, rank):
        worst = max(first, second, key=list(rank).index)
        what, why = outcome([rank[first], rank[second]], CRASH)
        assert what == worst
        assert ("in 1 of 2 rounds" in why) == (first != second)


def test_rounds_are_added_up() -> None:
    assert outcome([a_round(LOST), a_round(GOOD), a_round(LOST)], CRASH) == (
        "lost", f"24 of 800 acknowledged rows are gone in 2 of 3 rounds, {ALLOWED}: {CRASH}{UNCHECKED}",
    )  # fmt: skip
    assert outcome([a_round(GOOD)] * 2, None)[1] == "all 800 acknowledged rows are there, unchanged"
    recovered = a_round(GOOD.model_copy(update={"recovered": 2}))
    assert outcome([recovered, a_round(LOST), recovered], CRASH)[1].endswith("; 4 of unknown outcome and there")
    unknown = outcome([a_round(GOOD), a_round(GOOD, first_ok_s=None)], None)
    assert unknown == ("unknown", "no operation ended ok after it, in 1 of 2 rounds")


def begun(**changes: object) -> list[FaultSeen]:
    return [a_seen(**changes)]


NONE = ["Process crashes and power losses were not tested in this run."]


def test_without_a_crash_or_a_power_cut_none_was_tested() -> None:
    assert crash_notes([]) == NONE
    assert crash_notes([a_fault_cell(kind="freeze"), a_fault_cell(kind="stop")]) == NONE
    assert crash_notes([a_fault_cell(seen=begun(begin_s=None))]) == NONE


def test_what_was_killed_is_said() -> None:
    cells = [
        a_fault_cell(candidate="sqlite", target="tracking"),
        a_fault_cell(candidate="mysql"),
        a_fault_cell(candidate="mysql", driver="http"),
        a_fault_cell(candidate="postgresql"),
        a_fault_cell(candidate="late", seen=[a_seen(begin_s=None), a_seen()]),
        a_fault_cell(candidate="never", seen=begun(begin_s=None)),
        a_fault_cell(candidate="sqlite", target="load"),
    ]
    assert crash_notes(cells) == [
        "Process crashes were tested by kill -9, which leaves the operating system's cache as it was: MLflow server of "
        "sqlite; database server of mysql, postgresql, late; writers' process of sqlite.",
        "Power losses were not tested in this run.",
    ]


def test_power_losses_are_those_of_a_model() -> None:
    cut = a_fault_cell(candidate="sqlite", kind="power", modelled=True)
    assert crash_notes([cut, cut]) == [
        "Process crashes were not tested in this run.",
        "Power losses were tested in a model of the disk under SQLite, and on no server: sqlite.",
    ]
    assert [text.split(" were ")[0] for text in crash_notes([cut, a_fault_cell()])] == [
        "Process crashes",
        "Power losses",
    ]


def test_a_structure_that_nobody_looked_at_is_told() -> None:
    unlooked = GOOD.model_copy(update={"invariants": {}})
    assert found(unlooked)[1].endswith("; its structure was not checked")
    assert "structure" not in found(unlooked.model_copy(update={"door": "rest"}))[1]  # of which nobody can expect it
    assert "structure" not in found(GOOD)[1]


def test_a_fault_that_the_load_did_not_meet_proves_nothing() -> None:
    assert found(GOOD, gone_s=0.1, reconnects=0)[0] == "unknown"
    assert found(LOST, gone_s=0.1, reconnects=0)[0] == "broken"  # what is gone is gone
