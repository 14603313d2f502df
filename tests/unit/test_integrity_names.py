"""Where a tracking server chooses the run ids, a run is known by its name, through either door."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import numpy as np
import planted
import pytest
from planted import (
    ENDS_AGREE,
    EXPERIMENT,
    FAIL,
    HTTP_WORKLOADS,
    INFO,
    KEY,
    LATEST,
    NAMED,
    NO_ORPHANS,
    UNIQUE,
    WITH_EXPERIMENT,
    WORKLOADS,
    Statuses,
    Stored,
    all_ok,
    chosen,
    layout_of,
    perfect,
    wrong,
)

from bench.identity import run_name
from bench.integrity import Expected, Tally, read_back
from bench.outcome import Outcome
from bench.workload import Layout

Plant = Callable[[Stored, Layout], None]
Row = planted.Row
ALL = {**WORKLOADS, **HTTP_WORKLOADS}
NAME, STAGE, IN_EXPERIMENT = 1, 5, 6


class EveryRow:
    """The other door: REST gives all runs of the trial's experiments, whatever their names, and the rows of each."""

    def __init__(self, stored: Stored, size: int) -> None:
        self._stored, self._size = stored, size

    async def _give(self, rows: Sequence[Row]) -> AsyncIterator[Sequence[Row]]:
        for start in range(0, len(rows), self._size):
            yield rows[start : start + self._size]

    def experiments(self) -> AsyncIterator[Sequence[Row]]:
        return self._give(self._stored.experiments)

    def runs(self) -> AsyncIterator[Sequence[Row]]:
        return self._give(self._stored.runs)

    def metrics(self) -> AsyncIterator[Sequence[Row]]:
        return self._give(sorted(self._of_runs(self._stored.metrics), key=lambda row: row[:5]))

    def latest_metrics(self) -> AsyncIterator[Sequence[Row]]:
        return self._give(self._of_runs(self._stored.latest))

    def params(self) -> AsyncIterator[Sequence[Row]]:
        return self._give(self._of_runs(self._stored.params))

    def tags(self) -> AsyncIterator[Sequence[Row]]:
        return self._give(self._of_runs(self._stored.tags))

    def _of_runs(self, rows: Sequence[Row]) -> list[Row]:
        runs = {row[0] for row in self._stored.runs}
        return [row for row in rows if row[0] in runs]


def through_rest(stored: Stored, layout: Layout, statuses: Statuses, size: int = 3) -> Tally:
    expected = Expected(layout, statuses, EXPERIMENT, by_name=True)
    return asyncio.run(read_back(EveryRow(planted.by_server(stored), size), expected))


@pytest.mark.parametrize("name", ALL)
def test_equal_rows_are_clean_through_both_doors(name: str, tmp_path: Path) -> None:
    for seed in range(6):
        rng = random.Random(f"{name}/{seed}")
        layout = Layout(KEY, ALL[name], rng.randrange(1, 5))
        statuses = planted.random_ledgers(layout, rng)
        stored = perfect(layout, statuses, rng)
        size = rng.choice((1, 2, 5, 100))
        for tally in (
            planted.check_by_name(stored, layout, statuses, size),
            through_rest(stored, layout, statuses, size),
        ):
            assert wrong(tally) == {}, tally.examples
            assert tally.examples == []
            counts = {name: getattr(tally, name) for name in stored.counts}
            assert counts == dict(stored.counts)
    assert wrong(planted.check_in_sqlite(stored, layout, statuses, tmp_path, by_name=True)) == {}


def test_the_trial_of_another_key_has_other_names() -> None:
    layout = layout_of("experiments")
    statuses = all_ok(layout, 2)
    stored = perfect(layout, statuses)
    other = planted.TrialKey.of("planted", 5, 3)
    stored.runs.append((other.run_id(0, 0), other.name(0, 0), "RUNNING", 0, None, "active", 5))
    stored.experiments.append((5, other.name(0, 0), "active"))
    theirs = planted.by_server(stored)
    assert wrong(planted.check(theirs, layout, statuses, by_name=True)) == {}


def test_runs_that_set_up_made_may_have_our_ids() -> None:
    """By SQL we choose them; over a user's REST their server does. Names tell both."""
    layout = layout_of("batch")
    statuses = all_ok(layout, 3)
    stored = perfect(layout, statuses)
    assert wrong(planted.check(stored, layout, statuses, by_name=True)) == {}
    assert wrong(planted.check_by_name(stored, layout, statuses)) == {}


# Defects among runs; where the doors differ, REST's counts come second


def second_run(stored: Stored, _: Layout) -> None:
    """What a client that tries create_run again makes: two runs of one name, the second one empty."""
    run, name = stored.runs[0][:2]
    again = "again" + run[5:]
    stored.runs.append((again, *stored.runs[0][1:]))
    stored.tags.append((again, planted.NAME_TAG, name))


def copied_run(stored: Stored, _: Layout) -> None:
    """A run with all that it holds, twice."""
    run = stored.runs[0][0]
    for table in ("runs", "metrics", "latest", "params", "tags"):
        rows = getattr(stored, table)
        rows += [("again" + run[5:], *row[1:]) for row in rows if row[0] == run]


def in_the_experiment_of_another(stored: Stored, layout: Layout) -> None:
    stored.change("runs", 0, IN_EXPERIMENT, planted.experiment_of(1, 0))


def in_the_trials_experiment(stored: Stored, _: Layout) -> None:
    stored.change("runs", 0, IN_EXPERIMENT, EXPERIMENT)


def in_an_experiment_that_is_not(stored: Stored, _: Layout) -> None:
    stored.change("runs", 0, IN_EXPERIMENT, 999_999)


def in_no_experiment(stored: Stored, _: Layout) -> None:
    stored.change("runs", 0, IN_EXPERIMENT, None)


def names_exchanged(stored: Stored, _: Layout) -> None:
    """Each holds what was sent to the other."""
    one, two = stored.runs[0][NAME], stored.runs[1][NAME]
    stored.change("runs", 0, NAME, two)
    stored.change("runs", 1, NAME, one)


def named_by_somebody_else(stored: Stored, _: Layout) -> None:
    stored.change("runs", 0, NAME, "mine")


def without_a_name(stored: Stored, _: Layout) -> None:
    stored.change("runs", 0, NAME, None)


def named_almost_right(stored: Stored, _: Layout) -> None:
    stored.change("runs", 0, NAME, stored.runs[0][NAME] + "0")


def run_that_nobody_made(stored: Stored, layout: Layout) -> None:
    run = KEY.run_id(0xFFFF, 0xFFFFFFFF)  # the last that there can be
    experiment = stored.runs[0][IN_EXPERIMENT]
    stored.runs.append((run, run_name(run), "RUNNING", 0, None, "active", experiment))
    stored.tags.append((run, planted.NAME_TAG, run_name(run)))


def deleted_by_its_stage(stored: Stored, _: Layout) -> None:
    stored.change("runs", 0, STAGE, "deleted")


HOLDS = 2 + 2 + 1 + 6  # the run, its end, its params, its tag, its metrics
ROWS = 1 + 2 + 2 + 6  # the run, its params, its tags with its name, its metrics
RUN_DEFECTS: list[tuple[Plant, dict[str, int], dict[str, int] | None]] = [
    (second_run, {"duplicated": 2, UNIQUE: 1, NAMED: 1}, None),  # the run and its end
    (copied_run, {"duplicated": HOLDS, UNIQUE: 1, NAMED: 1, LATEST: 2}, None),
    (in_the_experiment_of_another, {WITH_EXPERIMENT: 1}, None),
    (in_the_trials_experiment, {WITH_EXPERIMENT: 1}, None),
    (in_an_experiment_that_is_not, {WITH_EXPERIMENT: 1}, None),
    (in_no_experiment, {WITH_EXPERIMENT: 1}, None),
    (
        named_by_somebody_else,
        {"lost": HOLDS, "unexpected": ROWS + 2},  # by the counts of whole tables, latest metrics among them
        {"lost": HOLDS, "unexpected": ROWS - 1, NAMED: 1, NO_ORPHANS: 1},
    ),
    (
        without_a_name,
        {"lost": HOLDS, "unexpected": ROWS + 2},
        {"lost": HOLDS, "unexpected": ROWS - 1, NAMED: 1, NO_ORPHANS: 1},
    ),
    (named_almost_right, {"lost": HOLDS, "unexpected": ROWS - 1, NAMED: 1, NO_ORPHANS: 1}, None),
    (run_that_nobody_made, {"unexpected": 1, WITH_EXPERIMENT: 0}, None),
    (deleted_by_its_stage, {"corrupted": 1}, None),
]


@pytest.mark.parametrize(("plant", "by_sql", "by_rest"), RUN_DEFECTS, ids=[case[0].__name__ for case in RUN_DEFECTS])
def test_a_defect_among_runs_is_counted_exactly(
    plant: Plant, by_sql: dict[str, int], by_rest: dict[str, int] | None, tmp_path: Path
) -> None:
    layout = layout_of("experiments")
    statuses = all_ok(layout, 3)
    stored = perfect(layout, statuses)
    plant(stored, layout)
    sql, rest = ({name: n for name, n in one.items() if n} for one in (by_sql, by_rest or by_sql))
    for size in (1, 4, 1000):
        tally = planted.check_by_name(stored, layout, statuses, size)
        assert wrong(tally) == sql
        assert tally.examples or not {"lost", "duplicated", "corrupted", "unexpected"} & sql.keys()
        assert wrong(through_rest(stored, layout, statuses, size)) == rest
    assert wrong(planted.check_in_sqlite(stored, layout, statuses, tmp_path, by_name=True)) == sql


def test_a_second_run_with_an_empty_name_tag_does_not_break_the_check() -> None:
    """A check that broke down would leave unknown what is known to be wrong."""
    layout = layout_of("experiments")
    statuses = all_ok(layout, 1)
    stored = perfect(layout, statuses)
    second_run(stored, layout)
    stored.change("tags", len(stored.tags) - 1, 2, None)
    assert wrong(planted.check_by_name(stored, layout, statuses)) == {"duplicated": 2, UNIQUE: 1, NAMED: 1}


def test_runs_that_exchange_their_names_are_seen() -> None:
    """Each row is found in a run to which it was not sent, and none where it was."""
    layout = layout_of("experiments")
    statuses = all_ok(layout, 1)
    stored = perfect(layout, statuses)
    names_exchanged(stored, layout)
    for tally in (planted.check_by_name(stored, layout, statuses), through_rest(stored, layout, statuses)):
        found = wrong(tally)
        assert found["corrupted"] >= 2 + 2 * 6  # the two runs, and the metrics of both
        assert found[WITH_EXPERIMENT] == 2
        assert found[NAMED] == 2


@pytest.mark.parametrize("name", ["experiments", "train"])
def test_a_run_whose_end_and_status_disagree_is_seen(name: str) -> None:
    layout = layout_of(name)
    statuses = all_ok(layout, 2)
    stored = perfect(layout, statuses)
    stored.change("runs", 0, 2, "RUNNING")
    assert wrong(planted.check_by_name(stored, layout, statuses)) == {ENDS_AGREE: 1}


# Experiments that writers made


def experiment_missing(stored: Stored, _: Layout) -> None:
    """Its run is left without one, as where a foreign key is not enforced."""
    del stored.experiments[0]


def experiment_and_run_missing(stored: Stored, _: Layout) -> None:
    gone = stored.runs.pop(0)[0]
    del stored.experiments[0]
    for table in ("metrics", "latest", "params", "tags"):
        setattr(stored, table, [row for row in getattr(stored, table) if row[0] != gone])


def experiment_twice(stored: Stored, _: Layout) -> None:
    """Workspaces allow a name twice; the run is in the first of the two."""
    stored.experiments.append((888, *stored.experiments[0][1:]))


def experiment_deleted(stored: Stored, _: Layout) -> None:
    stored.change("experiments", 0, 2, "deleted")


def experiment_never_planned(stored: Stored, _: Layout) -> None:
    stored.experiments.append((888, KEY.name(0, 77), "active"))


def experiment_of_the_next_cycle(stored: Stored, _: Layout) -> None:
    """The first that its writer has not sent."""
    stored.experiments.append((888, KEY.name(0, 3), "active"))


def experiment_of_a_writer_there_is_not(stored: Stored, _: Layout) -> None:
    stored.experiments.append((888, KEY.name(2, 0), "active"))


def experiment_of_a_negative_writer(stored: Stored, _: Layout) -> None:
    """Counted from the end, it would be taken for the last writer's."""
    stored.experiments.append((888, KEY.name(-1, 0), "active"))


def experiment_of_a_negative_cycle(stored: Stored, _: Layout) -> None:
    stored.experiments.append((888, KEY.name(0, -1), "active"))


def experiment_with_a_longer_name(stored: Stored, _: Layout) -> None:
    stored.change("experiments", 0, 1, stored.experiments[0][1] + "0")


def experiment_in_capitals(stored: Stored, _: Layout) -> None:
    """As a database that compares names without their case would give it."""
    name = next(row[1] for row in stored.experiments if row[1] != row[1].upper().replace("TRACKBENCH", "trackbench"))
    place = [row[1] for row in stored.experiments].index(name)
    stored.change("experiments", place, 1, "trackbench-" + name.removeprefix("trackbench-").upper())


EXPERIMENT_DEFECTS: list[tuple[Plant, dict[str, int]]] = [
    (experiment_missing, {"lost": 1, WITH_EXPERIMENT: 1}),
    (experiment_and_run_missing, {"lost": 1 + HOLDS}),
    (experiment_twice, {"duplicated": 1}),
    (experiment_deleted, {"corrupted": 1}),
    (experiment_never_planned, {"unexpected": 1}),
    (experiment_of_the_next_cycle, {"unexpected": 1}),
    (experiment_of_a_writer_there_is_not, {"unexpected": 1}),
    (experiment_of_a_negative_writer, {"unexpected": 1}),
    (experiment_of_a_negative_cycle, {"unexpected": 1}),
    (experiment_with_a_longer_name, {"lost": 1, "unexpected": 1, WITH_EXPERIMENT: 1}),
    (experiment_in_capitals, {"lost": 1, "unexpected": 1, WITH_EXPERIMENT: 1}),
]


@pytest.mark.parametrize(
    ("plant", "expected"), EXPERIMENT_DEFECTS, ids=[case[0].__name__ for case in EXPERIMENT_DEFECTS]
)
def test_a_defect_among_experiments_is_counted_exactly(plant: Plant, expected: dict[str, int]) -> None:
    layout = layout_of("experiments")
    statuses = all_ok(layout, 3)
    stored = perfect(layout, statuses)
    plant(stored, layout)
    for size in (1, 4, 1000):
        for tally in (
            planted.check_by_name(stored, layout, statuses, size),
            through_rest(stored, layout, statuses, size),
        ):
            assert wrong(tally) == expected
            assert tally.examples


def test_an_experiment_where_none_is_made_is_unexpected() -> None:
    layout = layout_of("train")
    statuses = all_ok(layout, 2)
    stored = perfect(layout, statuses)
    stored.experiments.append((888, KEY.name(0, 0), "active"))
    assert wrong(planted.check_by_name(stored, layout, statuses)) == {"unexpected": 1}


def test_an_experiment_that_failed_must_not_be_there_and_an_unknown_one_may() -> None:
    layout = layout_of("bare_experiments", 1)
    statuses = all_ok(layout, 2)
    stored = perfect(layout, statuses)
    place = layout.experiment_commit(1)
    statuses[0][place] = FAIL
    assert wrong(planted.check_by_name(stored, layout, statuses)) == {"unexpected": 1}
    for unknown in (INFO, Outcome.RESERVED):
        statuses[0][place] = unknown
        tally = planted.check_by_name(stored, layout, statuses)
        assert (wrong(tally), tally.recovered) == ({}, 1)
    statuses[0][place + 1 :] = Outcome.UNTOUCHED  # nothing was sent after it
    gone = perfect(layout, [statuses[0][:place]])
    tally = planted.check_by_name(gone, layout, statuses)
    assert (wrong(tally), tally.indeterminate) == ({}, 1)


def test_an_experiment_without_its_run_is_no_defect() -> None:
    """The time was over, or create_run failed."""
    layout = layout_of("experiments", 1)
    statuses = [np.array([planted.OK], np.uint8)]
    stored = perfect(layout, statuses)
    assert (len(stored.experiments), len(stored.runs)) == (1, 0)
    assert wrong(planted.check_by_name(stored, layout, statuses)) == {}
    statuses = [np.array([planted.OK, FAIL], np.uint8)]
    assert wrong(planted.check_by_name(stored, layout, statuses)) == {}


def test_the_ids_of_the_server_are_not_ours() -> None:
    assert all(KEY.locate_run(chosen(KEY.run_id(writer, 0))) is None for writer in range(50))
