"""Each defect planted among runs is counted exactly; whole trials without one raise no alarm."""

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import planted
import pytest
from planted import (
    ENDS_AGREE,
    EXPERIMENT,
    FAIL,
    INFO,
    KEY,
    NAMED,
    NO_ORPHANS,
    UNIQUE,
    WITH_EXPERIMENT,
    WORKLOADS,
    Stored,
    all_ok,
    check,
    layout_of,
    perfect,
    wrong,
)

from bench.integrity import Tally, reconcile
from bench.integrity.run_audit import run_name
from bench.outcome import Outcome
from bench.workload import Layout

Plant = Callable[[Stored], None]
STATUS, START, END, STAGE, IN_EXPERIMENT = 2, 3, 4, 5, 6


def renamed(stored: Stored) -> None:
    stored.change("runs", 0, 1, "mine")


def without_a_name(stored: Stored) -> None:
    stored.change("runs", 0, 1, None)


def started_later(stored: Stored) -> None:
    stored.change("runs", 0, START, stored.runs[0][START] + 1)


def deleted_by_its_stage(stored: Stored) -> None:
    stored.change("runs", 0, STAGE, "deleted")


def in_another_experiment(stored: Stored) -> None:
    stored.change("runs", 0, IN_EXPERIMENT, EXPERIMENT + 1)


def in_no_experiment(stored: Stored) -> None:
    stored.change("runs", 0, IN_EXPERIMENT, None)


def finished_without_an_end(stored: Stored) -> None:
    stored.change("runs", 0, END, None)


def ended_but_running(stored: Stored) -> None:
    stored.change("runs", 0, STATUS, "RUNNING")


def finish_lost(stored: Stored) -> None:
    stored.change("runs", 0, STATUS, "RUNNING")
    stored.change("runs", 0, END, None)


def ended_a_millisecond_later(stored: Stored) -> None:
    stored.change("runs", 0, END, stored.runs[0][END] + 1)


def run_gone_and_its_rows_left(stored: Stored) -> None:
    stored.tags.remove((stored.runs[0][0], planted.NAME_TAG, stored.runs[0][1]))
    del stored.runs[0]


def run_gone_with_all_its_rows(stored: Stored) -> None:
    gone = stored.runs.pop(0)[0]
    for table in ("metrics", "latest", "params", "tags"):
        setattr(stored, table, [row for row in getattr(stored, table) if row[0] != gone])


def run_of_nobody(stored: Stored) -> None:
    stored.runs.append((KEY.prefix + "0" * 20, "x", "RUNNING", 0, None, "active", EXPERIMENT))


def run_never_planned(stored: Stored) -> None:
    run = KEY.run_id(0, 9)
    stored.runs.append((run, run_name(run), "RUNNING", 0, None, "active", EXPERIMENT))
    stored.tags.append((run, planted.NAME_TAG, run_name(run)))


DEFECTS: list[tuple[Plant, dict[str, int]]] = [
    (renamed, {"corrupted": 1}),
    (without_a_name, {"corrupted": 1}),
    (started_later, {"corrupted": 1}),
    (deleted_by_its_stage, {"corrupted": 1}),
    (in_another_experiment, {WITH_EXPERIMENT: 1}),
    (in_no_experiment, {WITH_EXPERIMENT: 1}),
    (finished_without_an_end, {"corrupted": 1, ENDS_AGREE: 1}),
    (ended_but_running, {ENDS_AGREE: 1}),
    (finish_lost, {"lost": 1}),
    (ended_a_millisecond_later, {"corrupted": 1}),
    (run_gone_and_its_rows_left, {"lost": 2, NO_ORPHANS: 1}),  # the run and its end
    (run_gone_with_all_its_rows, {"lost": 2 + 2 + 1 + 6}),  # the run, its end, its params, its tag, its metrics
    (run_of_nobody, {"unexpected": 1}),
    (run_never_planned, {"unexpected": 1}),
]


@pytest.mark.parametrize(("plant", "expected"), DEFECTS, ids=[plant.__name__ for plant, _ in DEFECTS])
def test_a_planted_defect_is_counted_exactly(plant: Plant, expected: dict[str, int], tmp_path: Path) -> None:
    layout = layout_of("train")
    statuses = all_ok(layout, 3)
    stored = perfect(layout, statuses)
    plant(stored)
    assert wrong(check(stored, layout, statuses)) == expected
    assert wrong(planted.check_in_sqlite(stored, layout, statuses, tmp_path)) == expected


# A run is found by its name: one without it is missing with all it holds, and whole tables have its rows too many.
HOLDS = 2 + 2 + 1 + 6  # the run, its end, its params, its tag, its metrics
TOO_MANY = 1 + 2 + 1 + 1 + 6 + 2  # the run, its params, its tags, its name tag, its metrics, their latest
BY_NAME = {
    "renamed": {"lost": HOLDS, "unexpected": TOO_MANY},
    "without_a_name": {"lost": HOLDS, "unexpected": TOO_MANY},
    "run_gone_and_its_rows_left": {"lost": HOLDS, "unexpected": TOO_MANY - 2},
}


@pytest.mark.parametrize(("plant", "expected"), DEFECTS, ids=[plant.__name__ for plant, _ in DEFECTS])
def test_a_planted_defect_is_counted_where_a_server_chose_the_ids(
    plant: Plant, expected: dict[str, int], tmp_path: Path
) -> None:
    layout = layout_of("train")
    statuses = all_ok(layout, 3)
    stored = perfect(layout, statuses)
    plant(stored)
    expected = BY_NAME.get(plant.__name__, expected)
    assert wrong(planted.check_by_name(stored, layout, statuses)) == expected
    assert wrong(planted.check_in_sqlite(stored, layout, statuses, tmp_path, by_name=True)) == expected


def test_a_run_stored_twice_is_a_duplicate() -> None:
    layout = layout_of("batch")
    statuses = all_ok(layout, 1)
    stored = perfect(layout, statuses)
    stored.runs.append(stored.runs[0])
    assert wrong(check(stored, layout, statuses)) == {"duplicated": 1, UNIQUE: 1}


def test_a_run_of_the_set_up_must_be_there_though_nobody_wrote() -> None:
    layout = layout_of("log_metric", 3)
    statuses = [np.zeros(0, dtype=np.uint8)] * 3
    stored = perfect(layout, statuses)
    assert wrong(check(stored, layout, statuses)) == {}
    del stored.runs[1], stored.tags[1]
    assert wrong(check(stored, layout, statuses)) == {"lost": 1}


@pytest.mark.parametrize(("commit", "name"), [("create_commit", "the run"), ("finish_commit", "its end")])
def test_what_failed_must_not_be_there_and_what_is_unknown_may(commit: str, name: str) -> None:
    layout = layout_of("bare_train", 1)
    statuses = all_ok(layout, 2)
    stored = perfect(layout, statuses)
    place = getattr(layout, commit)(1)
    statuses[0][place] = FAIL
    assert wrong(check(stored, layout, statuses)) == {"unexpected": 1}, name
    for unknown in (INFO, Outcome.RESERVED):
        statuses[0][place] = unknown
        tally = check(stored, layout, statuses)
        assert (wrong(tally), tally.recovered) == ({}, 1)


def test_every_invariant_is_named_even_where_it_holds() -> None:
    layout = layout_of("log_metric")
    statuses = all_ok(layout, 2)
    tally = check(perfect(layout, statuses), layout, statuses)
    assert tally.invariants == dict.fromkeys(
        (UNIQUE, WITH_EXPERIMENT, ENDS_AGREE, planted.LATEST, NAMED, NO_ORPHANS, planted.HALVES), 0
    )


@pytest.mark.parametrize("part", range(10))
def test_no_false_alarm_in_two_hundred_random_trials(part: int) -> None:
    names = list(WORKLOADS)
    for number in range(part * 20, part * 20 + 20):
        rng = random.Random(number)
        layout = Layout(KEY, WORKLOADS[names[number % len(names)]], rng.randrange(1, 5))
        statuses = planted.random_ledgers(layout, rng)
        stored = perfect(layout, statuses, rng)
        tally = check(stored, layout, statuses, rng.choice((1, 2, 5, 100)))
        assert wrong(tally) == {}, (number, tally.examples)
        assert tally.examples == []
        counted = {name: getattr(tally, name) for name in ("attempted", "acknowledged", "recovered", "indeterminate")}
        assert counted == {name: stored.counts[name] for name in counted}, number
        assert tally.tables == Counter(stored.sizes())


@pytest.mark.parametrize("name", WORKLOADS)
def test_no_false_alarm_in_a_real_file(name: str, tmp_path: Path) -> None:
    rng = random.Random(name)
    layout = layout_of(name, 3)
    statuses = planted.random_ledgers(layout, rng)
    tally = planted.check_in_sqlite(perfect(layout, statuses, rng), layout, statuses, tmp_path)
    assert wrong(tally) == {}


def test_rows_of_other_trials_are_not_looked_at() -> None:
    layout = layout_of("log_metric")
    statuses = all_ok(layout, 2)
    stored = perfect(layout, statuses)
    other = planted.TrialKey.of("planted", 5, 3).run_id(0, 0)
    stored.runs.append((other, "x", "RUNNING", 0, 5, "active", 1))
    stored.metrics.append((other, "metric0000", 0, 0, 0.0, False))
    assert wrong(check(stored, layout, statuses)) == {}


EVERY = {"metrics": 10, "runs": 2}


@pytest.mark.parametrize(
    ("after", "lost", "unexpected"),
    [
        ({"metrics": 15, "runs": 3}, 0, 0),
        ({"metrics": 16, "runs": 3}, 0, 1),
        ({"metrics": 13, "runs": 3}, 2, 0),
        ({"metrics": 14, "runs": 5}, 1, 2),  # one table's surplus never pays for another's deficit
    ],
)
def test_what_a_table_gained_must_be_ours(after: dict[str, int], lost: int, unexpected: int) -> None:
    tally = reconcile(EVERY, after, {"metrics": 5, "runs": 1})
    assert (tally.lost, tally.unexpected, tally.duplicated, tally.corrupted) == (lost, unexpected, 0, 0)
    assert len(tally.examples) == (lost > 0) + (unexpected > 0)


@pytest.mark.parametrize("status", list(Outcome))
@pytest.mark.parametrize(("copies", "exact"), [(0, 0), (1, 1), (1, 0), (2, 2), (3, 1), (3, 0)])
def test_one_element_is_judged_as_the_design_says(status: Outcome, copies: int, exact: int) -> None:
    tally = Tally()
    lost = tally.judge(np.array([status], np.uint8), np.array([copies], np.uint16), np.array([exact], np.uint16))
    unknown, never = status in (Outcome.INFO, Outcome.RESERVED), status in (FAIL, Outcome.UNTOUCHED)
    assert tally.attempted == (status != Outcome.UNTOUCHED)
    assert tally.acknowledged == (status == Outcome.OK)
    assert tally.lost == (status == Outcome.OK and copies == 0) == bool(lost[0])
    assert tally.recovered == (unknown and copies > 0)
    assert tally.indeterminate == (unknown and copies == 0)
    assert tally.unexpected == (never and copies > 0)
    assert tally.corrupted == (copies > 0 and exact == 0)
    assert tally.duplicated == max(copies - 1, 0)


def test_tallies_add_up() -> None:
    one, two = Tally(attempted=1, lost=2, examples=["a"] * 6), Tally(attempted=3, lost=4, examples=["b"] * 6)
    one.invariants.update(x=0, y=1)
    two.invariants.update(x=0, y=2)
    two.tables.update(runs=5)
    one.add(two)
    assert (one.attempted, one.lost, one.tables["runs"]) == (4, 6, 5)
    assert one.invariants == {"x": 0, "y": 3}
    assert one.examples == ["a"] * 6 + ["b"] * 4
