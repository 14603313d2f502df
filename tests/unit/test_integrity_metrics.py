"""Each defect planted among metrics is counted exactly, under its own name, and nothing else is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import planted
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import FAIL, INFO, KEY, LATEST, NO_ORPHANS, OK, Statuses, Stored, all_ok, check, layout_of, perfect, wrong

from bench.errors import BadInput
from bench.integrity import metric_audit
from bench.outcome import Outcome
from bench.scenario import parse_text
from bench.workload import Layout, Workload


@dataclass
class Scene:
    """A trial without a fault, before something goes wrong."""

    layout: Layout
    statuses: Statuses
    stored: Stored


def scene(name: str = "shuffled", writers: int = 2, cycles: int = 4) -> Scene:
    layout = layout_of(name, writers)
    statuses = all_ok(layout, cycles)
    return Scene(layout, statuses, perfect(layout, statuses))


def delete_one(it: Scene) -> None:
    del it.stored.metrics[it.stored.inner()[0]]


def delete_five(it: Scene) -> None:
    for place in reversed(it.stored.inner(5)):
        del it.stored.metrics[place]


def delete_half_a_batch(it: Scene) -> None:
    del it.stored.metrics[:3]
    it.stored.settle_latest()


def flip_the_last_bit(it: Scene) -> None:
    place = it.stored.inner()[0]
    it.stored.change("metrics", place, 4, next(planted.bits_of(it.stored.metrics[place][4])))


def move_by_a_millisecond(it: Scene) -> None:
    place = it.stored.inner()[0]
    it.stored.change("metrics", place, 3, it.stored.metrics[place][3] + 1)


def swap_two_values(it: Scene) -> None:
    one, two = it.stored.inner(2)
    first, second = it.stored.metrics[one][4], it.stored.metrics[two][4]
    assert first != second
    it.stored.change("metrics", one, 4, second)
    it.stored.change("metrics", two, 4, first)


def flip_is_nan(it: Scene) -> None:
    it.stored.change("metrics", it.stored.inner()[0], 5, True)


def copy_with_another_time(it: Scene) -> None:
    row = it.stored.metrics[it.stored.inner()[0]]
    it.stored.metrics.append((*row[:3], row[3] - 1, *row[4:]))


def three_more_copies(it: Scene) -> None:
    row = it.stored.metrics[it.stored.inner()[0]]
    it.stored.metrics += [(*row[:3], row[3] - n, *row[4:]) for n in (1, 2, 3)]


def only_wrong_copies(it: Scene) -> None:
    copy_with_another_time(it)
    move_by_a_millisecond(it)


def add(it: Scene, run: str, key: str, step: int) -> None:
    it.stored.metrics.append((run, key, step, 1_735_689_600_123, 1.5, False))
    it.stored.settle_latest()


def unknown_key(it: Scene) -> None:
    add(it, it.layout.run_id(0, 0), "loss", 0)


def key_beyond_the_last(it: Scene) -> None:
    add(it, it.layout.run_id(0, 0), "metric0004", 0)


def key_of_another_kind(it: Scene) -> None:
    add(it, it.layout.run_id(0, 0), "metric00000000k0000", 0)


def key_with_a_huge_number(it: Scene) -> None:
    add(it, it.layout.run_id(0, 0), "metric" + "f" * 20, 0)


def key_with_a_huge_operation(it: Scene) -> None:
    add(it, it.layout.run_id(0, 0), "metric" + "f" * 20 + "k0000", 0)


def unknown_run(it: Scene) -> None:
    add(it, KEY.prefix + "0" * 20, "metric0000", 0)


def run_of_a_writer_there_is_not(it: Scene) -> None:
    add(it, KEY.run_id(2, 0), "metric0000", 0)


def negative_step(it: Scene) -> None:
    add(it, it.layout.run_id(0, 0), "metric0000", -1)


def ordinal_beyond_the_ledger(it: Scene) -> None:
    assert it.layout.workload.metrics * 4 == 28  # 4 keys: ordinals 0 to 27, so steps 0 to 6
    add(it, it.layout.run_id(0, 0), "metric0000", 7)


def stale_latest(it: Scene) -> None:
    latest = it.stored.latest[0]
    older = [row for row in it.stored.metrics if row[:2] == latest[:2] and row != latest]
    it.stored.latest[0] = older[-1]


def missing_latest(it: Scene) -> None:
    del it.stored.latest[1]


def extra_latest(it: Scene) -> None:
    it.stored.latest.append((it.layout.run_id(0, 0), "metric00ff", 0, 0, 0.0, False))


def latest_of_two_keys_exchanged(it: Scene) -> None:
    one, two = it.stored.latest[:2]
    it.stored.latest[:2] = [(*one[:2], *two[2:]), (*two[:2], *one[2:])]


def latest_with_another_flag(it: Scene) -> None:
    it.stored.change("latest", 0, 5, not it.stored.latest[0][5])


DEFECTS: list[tuple[Callable[[Scene], None], dict[str, int]]] = [
    (delete_one, {"lost": 1}),
    (delete_five, {"lost": 5}),
    (delete_half_a_batch, {"lost": 3}),
    (flip_the_last_bit, {"corrupted": 1}),
    (move_by_a_millisecond, {"corrupted": 1}),
    (swap_two_values, {"corrupted": 2}),
    (flip_is_nan, {"corrupted": 1}),
    (copy_with_another_time, {"duplicated": 1}),
    (three_more_copies, {"duplicated": 3}),
    (only_wrong_copies, {"duplicated": 1, "corrupted": 1}),
    (unknown_key, {"unexpected": 1}),
    (key_beyond_the_last, {"unexpected": 1}),
    (key_of_another_kind, {"unexpected": 1}),
    (key_with_a_huge_number, {"unexpected": 1}),
    (key_with_a_huge_operation, {"unexpected": 1}),
    (unknown_run, {"unexpected": 1, NO_ORPHANS: 1}),
    (run_of_a_writer_there_is_not, {"unexpected": 1, NO_ORPHANS: 1}),
    (negative_step, {"unexpected": 1}),
    (ordinal_beyond_the_ledger, {"unexpected": 1}),
    (stale_latest, {LATEST: 1}),
    (missing_latest, {LATEST: 1}),
    (extra_latest, {LATEST: 1}),
    (latest_of_two_keys_exchanged, {LATEST: 2}),
    (latest_with_another_flag, {LATEST: 1}),
]


@pytest.mark.parametrize(("plant", "expected"), DEFECTS, ids=[plant.__name__ for plant, _ in DEFECTS])
def test_a_planted_defect_is_counted_exactly(
    plant: Callable[[Scene], None], expected: dict[str, int], tmp_path: Path
) -> None:
    it = scene()
    plant(it)
    for size in (1, 3, 1000):
        tally = check(it.stored, it.layout, it.statuses, size)
        assert wrong(tally) == expected
        assert tally.examples
    assert wrong(planted.check_in_sqlite(it.stored, it.layout, it.statuses, tmp_path)) == expected


# Rows of a run that is not there have no name to be found by: only the count of whole tables sees them.
BY_NAME: dict[str, dict[str, int]] = {
    "unknown_run": {"unexpected": 2},  # the metric and its latest
    "run_of_a_writer_there_is_not": {"unexpected": 2},
}


@pytest.mark.parametrize(("plant", "expected"), DEFECTS, ids=[plant.__name__ for plant, _ in DEFECTS])
def test_a_planted_defect_is_counted_where_a_server_chose_the_ids(
    plant: Callable[[Scene], None], expected: dict[str, int], tmp_path: Path
) -> None:
    it = scene()
    plant(it)
    expected = BY_NAME.get(plant.__name__, expected)
    for size in (1, 3, 1000):
        tally = planted.check_by_name(it.stored, it.layout, it.statuses, size)
        assert wrong(tally) == expected
        assert tally.examples
    assert wrong(planted.check_in_sqlite(it.stored, it.layout, it.statuses, tmp_path, by_name=True)) == expected


def test_a_doubled_latest_is_counted() -> None:
    """No primary key stops this one where a table was copied without it."""
    it = scene()
    it.stored.latest.append(it.stored.latest[2])
    assert wrong(check(it.stored, it.layout, it.statuses)) == {LATEST: 1}


def test_an_extra_latest_that_is_stored_twice_is_counted() -> None:
    it = scene()
    it.stored.latest += [(it.layout.run_id(0, 0), "metric00ff", 0, 0, 0.0, False)] * 2
    assert wrong(check(it.stored, it.layout, it.statuses)) == {LATEST: 1}


def test_exact_copies_are_duplicates_too() -> None:
    it = scene()
    it.stored.metrics.append(it.stored.metrics[it.stored.inner()[0]])
    assert wrong(check(it.stored, it.layout, it.statuses)) == {"duplicated": 1}


def test_a_step_beyond_the_run_is_unexpected() -> None:
    it = scene("train")
    add(it, it.layout.run_id(1, 2), "metric0001", 3)
    assert wrong(check(it.stored, it.layout, it.statuses)) == {"unexpected": 1}


@pytest.mark.parametrize("bit", range(20, 63))
def test_a_step_with_a_high_bit_flipped_is_seen(bit: int) -> None:
    it = scene()
    place = it.stored.inner()[0]
    it.stored.change("metrics", place, 2, it.stored.metrics[place][2] ^ 1 << bit)
    it.stored.settle_latest()
    assert wrong(check(it.stored, it.layout, it.statuses)) == {"lost": 1, "unexpected": 1}


@pytest.mark.parametrize("name", [name for name, work in planted.WORKLOADS.items() if work.kind == "train"])
def test_a_row_in_another_run_of_its_writer_is_seen(name: str) -> None:
    it = scene(name)
    row = it.stored.metrics.pop(0)
    it.stored.metrics.append((it.layout.run_id(0, 1), *row[1:]))
    it.stored.settle_latest()
    assert wrong(check(it.stored, it.layout, it.statuses)) == {"lost": 1, "duplicated": 1}


def test_a_commit_that_failed_must_not_be_there() -> None:
    it = scene(cycles=3)
    it.statuses[1][2] = FAIL
    assert wrong(check(it.stored, it.layout, it.statuses)) == {"unexpected": 7}


@pytest.mark.parametrize("status", [INFO, Outcome.RESERVED])
def test_a_commit_of_unknown_outcome_may_be_there_or_not(status: Outcome) -> None:
    it = scene(cycles=3)
    it.statuses[0][1] = status
    there = check(it.stored, it.layout, it.statuses)
    assert (wrong(there), there.recovered, there.indeterminate) == ({}, 7, 0)
    del it.stored.metrics[7:14]
    it.stored.settle_latest()
    absent = check(it.stored, it.layout, it.statuses)
    assert (wrong(absent), absent.recovered, absent.indeterminate) == ({}, 0, 7)
    assert absent.attempted == there.attempted == 2 * 3 * 7 + 2
    assert absent.acknowledged == there.acknowledged == 2 * 3 * 7 + 2 - 7


def test_what_is_recovered_must_still_be_right() -> None:
    it = scene()
    flip_the_last_bit(it)
    commit = it.layout.metric_commits(np.array(it.stored.inner()))[0]
    it.statuses[0][commit] = INFO
    assert wrong(check(it.stored, it.layout, it.statuses)) == {"corrupted": 1}


def test_the_sign_of_zero_is_not_compared() -> None:
    """SQLite loses it."""
    it = scene("one_key", writers=1, cycles=600)
    zeros = [n for n, row in enumerate(it.stored.metrics) if row[4] == 0 and not row[5]]
    assert zeros
    for place in zeros:
        it.stored.change("metrics", place, 4, -0.0)
    assert wrong(check(it.stored, it.layout, it.statuses, 1000)) == {}
    it.stored.latest = [(*row[:4], -row[4], row[5]) if row[4] == 0 else row for row in it.stored.latest]
    assert wrong(check(it.stored, it.layout, it.statuses, 1000)) == {}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["log_metric", "hot", "batch", "fresh", "hot_fresh", "bulk", "train"]), st.data())
def test_any_deletion_is_lost_and_any_flipped_bit_is_corruption(name: str, data: st.DataObject) -> None:
    it = scene(name, writers=data.draw(st.integers(1, 3)), cycles=5)
    many = len(it.stored.metrics)
    places = data.draw(st.lists(st.integers(0, many - 1), unique=True, min_size=1, max_size=many), label="places")
    gone, bent = places[::2], places[1::2]
    for place in bent:
        row = it.stored.metrics[place]
        if data.draw(st.booleans()):
            flipped = [value for value in planted.bits_of(row[4]) if value != row[4]]
            it.stored.change("metrics", place, 4, data.draw(st.sampled_from(flipped)))
        else:
            it.stored.change("metrics", place, 3, row[3] ^ 1 << data.draw(st.integers(0, 62)))
    it.stored.metrics = [row for place, row in enumerate(it.stored.metrics) if place not in gone]
    it.stored.settle_latest()
    expected = {"lost": len(gone), "corrupted": len(bent)}
    assert wrong(check(it.stored, it.layout, it.statuses, 7)) == {name: n for name, n in expected.items() if n}


def test_the_size_of_a_chunk_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    it = scene("batch", cycles=6)
    for place in reversed(it.stored.inner(4)):
        del it.stored.metrics[place]
    whole = check(it.stored, it.layout, it.statuses)
    monkeypatch.setattr(metric_audit, "_CHUNK", 7)
    assert check(it.stored, it.layout, it.statuses) == whole
    assert wrong(whole) == {"lost": 4}


def test_the_words_name_the_row_and_are_not_too_many() -> None:
    it = scene("one_key", writers=1, cycles=40)
    lost = it.stored.metrics[5]
    del it.stored.metrics[5]
    (words,) = check(it.stored, it.layout, it.statuses).examples
    assert repr(lost[1]) in words
    assert f"step {lost[2]}" in words
    del it.stored.metrics[:30]
    tally = check(it.stored, it.layout, it.statuses)
    assert tally.lost == 31
    assert len(tally.examples) == 10


HEAD = """
title = "t"
[candidates.sqlite]
store = "sqlite"
[[cells]]
workload = "w"
concurrency = [1]
"""


@pytest.mark.parametrize("odd", [{"hot_run": True}, {"fresh_keys": True}])
def test_a_train_run_holds_only_its_own_rows(odd: dict[str, bool]) -> None:
    """Unless a scenario may not combine these, a row in a run to which it was never sent must be seen."""
    option = next(iter(odd))
    try:
        parse_text(f'{HEAD}[workloads.w]\nkind = "train"\n{option} = true\n', "x.toml")
    except BadInput as error:
        assert option in str(error)  # noqa: PT017
        return
    layout = Layout(KEY, Workload("odd", "train", steps=2, keys=2, **odd), 2)  # type: ignore[arg-type]
    statuses = all_ok(layout, 2)
    stored = perfect(layout, statuses)
    assert wrong(check(stored, layout, statuses)) == {}
    for target in ((0, 1), (1, 0)):
        other = perfect(layout, statuses)
        row = other.metrics.pop(0)
        other.metrics.append((layout.run_id(*target), *row[1:]))
        other.settle_latest()
        assert wrong(check(other, layout, statuses)).get("lost") == 1, target


def test_the_ledger_says_what_was_attempted() -> None:
    it = scene("log_metric", writers=3, cycles=9)
    tally = check(it.stored, it.layout, it.statuses)
    assert tally.attempted == tally.acknowledged == 3 * 9 + 3  # and three runs
    assert tally.stored == 3 * 9 + 3
    it.statuses[0] = np.append(it.statuses[0], np.uint8(OK))
    assert wrong(check(it.stored, it.layout, it.statuses)) == {"lost": 1}
