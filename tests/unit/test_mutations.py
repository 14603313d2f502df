"""The mutation test of the checkers: each planted defect is found under its name, counted exactly, and alone.

The defects are data: `defects_metrics`, `defects_runs`, `defects_traces`. Where none was planted, none is found.
"""

import random
from collections import Counter
from pathlib import Path

import defects_metrics  # noqa: F401
import defects_runs  # noqa: F401
import planted
import pytest
from defects import DEFECTS, Defect, Scene
from defects_traces import TRACES, TraceDefect
from planted import HTTP_WORKLOADS, KEY, WORKLOADS, Stored, counted, perfect
from planted_traces import Stored as Traces

from bench.integrity import Tally, reconcile
from bench.integrity.tally import MAX_EXAMPLES
from bench.workload import Layout

FAULTS = ("lost", "duplicated", "corrupted", "unexpected")
DOUBTS = ("recovered", "indeterminate", "stale")


def found(tally: Tally) -> dict[str, int]:
    """All that went wrong or is in doubt, by name, without zeros."""
    named = {name: getattr(tally, name) for name in (*FAULTS, *DOUBTS)}
    return {name: n for name, n in {**named, **tally.invariants}.items() if n}


def planned(tally: Tally) -> tuple[int, int]:
    """What the ledger says, whatever is stored."""
    return tally.attempted, tally.acknowledged


def by_id(it: Scene, stored: Stored, size: int = 3) -> Tally:
    """As after a direct trial."""
    return counted(stored, planted.check(stored, it.layout, it.statuses, size))


def by_name(it: Scene, stored: Stored) -> Tally:
    """As after an HTTP trial."""
    return planted.check_by_name(stored, it.layout, it.statuses, 7)


def told(tally: Tally, words: str) -> bool:
    """Whether an example names the row, and there are not too many."""
    return any(words in example for example in tally.examples) and len(tally.examples) <= MAX_EXAMPLES


@pytest.mark.parametrize("defect", [one for one in DEFECTS if one.workload in WORKLOADS], ids=str)
def test_a_defect_is_found_and_nothing_else(defect: Defect) -> None:
    it = Scene.of(defect.workload, defect.cycles)
    words = defect.plant(it)
    for size in (1 if len(it.stored.metrics) < 200 else 100, 1000):
        tally = by_id(it, it.stored, size)
        assert found(tally) == defect.expected
        assert told(tally, words), (words, tally.examples)
    assert planned(tally) == planned(by_id(it, perfect(it.layout, it.statuses)))


@pytest.mark.parametrize("defect", DEFECTS, ids=str)
def test_a_defect_is_found_where_a_server_chose_the_ids(defect: Defect) -> None:
    it = Scene.of(defect.workload, defect.cycles)
    words = defect.plant(it)
    tally = by_name(it, it.stored)
    assert found(tally) == (defect.expected if defect.by_name is None else defect.by_name)
    assert told(tally, "" if defect.by_name else words), (words, tally.examples)
    assert planned(tally) == planned(by_name(it, perfect(it.layout, it.statuses)))


@pytest.mark.parametrize("defect", [one for one in DEFECTS if not one.forbidden], ids=str)
def test_a_defect_is_found_in_a_file_with_mlflows_schema(defect: Defect, tmp_path: Path) -> None:
    it = Scene.of(defect.workload, defect.cycles)
    words = defect.plant(it)
    named = defect.workload in HTTP_WORKLOADS
    tally = planted.check_in_sqlite(it.stored, it.layout, it.statuses, tmp_path, by_name=named)
    assert found(tally if named else counted(it.stored, tally)) == defect.expected
    assert told(tally, words), (words, tally.examples)


def test_a_row_of_a_stranger_that_is_gone_is_found_by_the_count_of_its_table() -> None:
    it = Scene.of("batch", 2)
    tally = planted.check(it.stored, it.layout, it.statuses)
    tally.add(reconcile(Counter(params=1), it.stored.sizes(), tally.tables))
    assert found(tally) == {"lost": 1}
    assert told(tally, "params: 1 row fewer")


@pytest.mark.parametrize("defect", TRACES, ids=str)
def test_a_defect_among_traces_is_found_and_nothing_else(defect: TraceDefect, tmp_path: Path) -> None:
    stored = Traces()
    before = stored.audit()
    words = defect.plant(stored)
    for tally in (stored.audit(), *([] if defect.forbidden else [stored.audit_in_sqlite(tmp_path)])):
        assert found(tally) == defect.expected
        assert told(tally, words), (words, tally.examples)
        assert tally.attempted == before.attempted


def test_the_table_has_something_for_every_count_and_invariant() -> None:
    table: list[Defect | TraceDefect] = [*DEFECTS, *TRACES]
    names = [one.name for one in table]
    assert len(set(names)) == len(names) >= 30
    provoked = {name for one in table for name in one.expected}
    it = Scene.of("train", 1)
    clean = by_id(it, it.stored)
    assert set(clean.invariants) <= provoked
    assert set(Traces().audit().invariants) <= provoked
    assert {*FAULTS, "recovered", "indeterminate"} <= provoked
    alone = {name for one in table for name in one.expected if len(one.expected) == 1}
    assert set(FAULTS) <= alone


# Two hundred clean runs


def clean_run(number: int) -> tuple[Scene, random.Random]:
    """A trial of any workload with any number of writers, whose commits ended in any way; nothing was done to it."""
    rng = random.Random(f"clean {number}")
    workloads = [*WORKLOADS.values(), *HTTP_WORKLOADS.values()]
    layout = Layout(KEY, workloads[number % len(workloads)], rng.randrange(1, 6))
    statuses = planted.random_ledgers(layout, rng)
    return Scene(layout, statuses, perfect(layout, statuses, rng)), rng


@pytest.mark.parametrize("part", range(8))
def test_no_false_alarm_in_two_hundred_clean_runs(part: int, tmp_path: Path) -> None:
    doubtful = 0
    for number in range(part * 25, part * 25 + 25):
        it, rng = clean_run(number)
        named = it.layout.workload.name in HTTP_WORKLOADS
        tallies = [by_name(it, it.stored)]
        if not named:
            tallies.append(by_id(it, it.stored, rng.choice((1, 2, 5, 100))))
        if number % 5 == 0:
            tallies.append(planted.check_in_sqlite(it.stored, it.layout, it.statuses, tmp_path, by_name=named))
        for tally in tallies:
            counts = {name: getattr(tally, name) for name in ("attempted", "acknowledged", *DOUBTS)}
            assert counts == {name: it.stored.counts[name] for name in counts}, number
            assert tally.wrong == 0, (number, tally.examples)
            assert tally.examples == []
            assert tally.tables == Counter(it.stored.sizes())
        doubtful += it.stored.counts["recovered"] + it.stored.counts["indeterminate"] > 0
    assert doubtful >= 10  # most of them have commits of unknown outcome


def test_no_false_alarm_in_clean_traces(tmp_path: Path) -> None:
    seen: Counter[str] = Counter()
    for number in range(40):
        stored = Traces()
        stored.doubt(random.Random(number))
        for tally in (stored.audit(), *([stored.audit_in_sqlite(tmp_path)] if number % 8 == 0 else [])):
            assert tally.wrong == 0, (number, tally.examples)
            assert tally.examples == []
            seen.update(found(tally))
    assert seen["recovered"] > 10
    assert seen["indeterminate"] > 10
