"""Each defect planted among params and tags is counted exactly, under its own name."""

from collections.abc import Callable
from pathlib import Path

import planted
import pytest
from planted import FAIL, INFO, KEY, NAMED, NO_ORPHANS, Stored, all_ok, check, layout_of, perfect, wrong

from bench.workload import Layout

Plant = Callable[[Stored, Layout], None]


def param_truncated(stored: Stored, _: Layout) -> None:
    stored.change("params", 0, 2, stored.params[0][2][:-1])


def param_of_another(stored: Stored, _: Layout) -> None:
    stored.change("params", 0, 2, stored.params[1][2])


def params_exchanged(stored: Stored, _: Layout) -> None:
    one, two = stored.params[0][2], stored.params[1][2]
    stored.change("params", 0, 2, two)
    stored.change("params", 1, 2, one)


def params_missing(stored: Stored, _: Layout) -> None:
    del stored.params[1:3]


def param_never_sent(stored: Stored, layout: Layout) -> None:
    stored.params.append((layout.run_id(0, 0), "lr", "0.1"))


def param_beyond_the_ledger(stored: Stored, layout: Layout) -> None:
    stored.params.append((layout.run_id(1, 0), layout.param_key(1, 8), "x"))


def param_of_a_writer_there_is_not(stored: Stored, layout: Layout) -> None:
    stored.params.append((layout.run_id(0, 0), layout.param_key(2, 0), "x"))


def param_of_a_missing_run(stored: Stored, _: Layout) -> None:
    stored.params.append((KEY.prefix + "0" * 20, "param0000n00000000", "x"))


def param_under_a_longer_key(stored: Stored, layout: Layout) -> None:
    stored.change("params", 0, 1, "param0000n000000000")


def tag_missing(stored: Stored, _: Layout) -> None:
    del stored.tags[0]


def tag_emptied(stored: Stored, _: Layout) -> None:
    stored.change("tags", 0, 2, None)


def tag_with_another_case(stored: Stored, _: Layout) -> None:
    stored.change("tags", 0, 2, stored.tags[0][2].upper())


def tag_with_a_blank_more(stored: Stored, _: Layout) -> None:
    """What a database that pads or trims texts does."""
    stored.change("tags", 1, 2, stored.tags[1][2] + " ")


def tag_without_its_last_planes(stored: Stored, _: Layout) -> None:
    """What MySQL's old utf8 does to letters of four bytes."""
    place = next(n for n, row in enumerate(stored.tags) if "🜚" in row[2])
    stored.change("tags", place, 2, stored.tags[place][2].replace("🜚", "?"))


def tag_never_sent(stored: Stored, layout: Layout) -> None:
    stored.tags.append((layout.run_id(0, 0), "mlflow.note.content", "hello"))


def name_tag_missing(stored: Stored, _: Layout) -> None:
    stored.tags.remove(next(row for row in stored.tags if row[1] == planted.NAME_TAG))


def name_tag_changed(stored: Stored, _: Layout) -> None:
    place = next(n for n, row in enumerate(stored.tags) if row[1] == planted.NAME_TAG)
    stored.change("tags", place, 2, "another")


def param_in_the_run_of_another_writer(stored: Stored, layout: Layout) -> None:
    row = stored.params.pop(0)
    assert row[0] == layout.run_id(0, 0)
    stored.params.append((layout.run_id(1, 0), *row[1:]))


def tag_in_the_run_of_another_writer(stored: Stored, layout: Layout) -> None:
    row = stored.tags.pop(0)
    assert row[0] == layout.run_id(0, 0)
    stored.tags.append((layout.run_id(1, 0), *row[1:]))


DEFECTS: list[tuple[Plant, dict[str, int]]] = [
    (param_truncated, {"corrupted": 1}),
    (param_of_another, {"corrupted": 1}),
    (params_exchanged, {"corrupted": 2}),
    (params_missing, {"lost": 2}),
    (param_never_sent, {"unexpected": 1}),
    (param_beyond_the_ledger, {"unexpected": 1}),
    (param_of_a_writer_there_is_not, {"unexpected": 1}),
    (param_of_a_missing_run, {"unexpected": 1, NO_ORPHANS: 1}),
    (param_under_a_longer_key, {"lost": 1, "unexpected": 1}),
    (tag_missing, {"lost": 1}),
    (tag_emptied, {"corrupted": 1}),
    (tag_with_another_case, {"corrupted": 1}),
    (tag_with_a_blank_more, {"corrupted": 1}),
    (tag_without_its_last_planes, {"corrupted": 1}),
    (tag_never_sent, {"unexpected": 1}),
    (name_tag_missing, {NAMED: 1}),
    (name_tag_changed, {NAMED: 1}),
    (param_in_the_run_of_another_writer, {"lost": 1, "unexpected": 1}),
    (tag_in_the_run_of_another_writer, {"lost": 1, "unexpected": 1}),
]


@pytest.mark.parametrize(("plant", "expected"), DEFECTS, ids=[plant.__name__ for plant, _ in DEFECTS])
def test_a_planted_defect_is_counted_exactly(plant: Plant, expected: dict[str, int], tmp_path: Path) -> None:
    layout = layout_of("batch")
    statuses = all_ok(layout, 4)
    stored = perfect(layout, statuses)
    plant(stored, layout)
    tally = check(stored, layout, statuses)
    assert wrong(tally) == expected
    assert tally.examples or NAMED in expected
    assert wrong(planted.check_in_sqlite(stored, layout, statuses, tmp_path)) == expected


BY_NAME = {"param_of_a_missing_run": {"unexpected": 1}}  # by the count of the whole table: it has no run to name it


@pytest.mark.parametrize(("plant", "expected"), DEFECTS, ids=[plant.__name__ for plant, _ in DEFECTS])
def test_a_planted_defect_is_counted_where_a_server_chose_the_ids(
    plant: Plant, expected: dict[str, int], tmp_path: Path
) -> None:
    layout = layout_of("batch")
    statuses = all_ok(layout, 4)
    stored = perfect(layout, statuses)
    plant(stored, layout)
    expected = BY_NAME.get(plant.__name__, expected)
    assert wrong(planted.check_by_name(stored, layout, statuses)) == expected
    assert wrong(planted.check_in_sqlite(stored, layout, statuses, tmp_path, by_name=True)) == expected


@pytest.mark.parametrize("table", ["params", "tags"])
@pytest.mark.parametrize("target", [(1, 0), (0, 1), (1, 1)])
def test_a_text_in_another_run_of_a_training_is_seen(table: str, target: tuple[int, int]) -> None:
    """Its key and value are right; only the run is not."""
    layout = layout_of("train")
    statuses = all_ok(layout, 2)
    stored = perfect(layout, statuses)
    rows = getattr(stored, table)
    row = rows.pop(0)
    rows.append((layout.run_id(*target), *row[1:]))
    found = wrong(check(stored, layout, statuses))
    assert found.get("lost") == 1
    assert sum(found.values()) > 1  # and where it is, it was never sent


@pytest.mark.parametrize("table", ["params", "tags"])
def test_a_text_stored_twice_is_a_duplicate(table: str) -> None:
    layout = layout_of("train")
    statuses = all_ok(layout, 2)
    stored = perfect(layout, statuses)
    getattr(stored, table).append(getattr(stored, table)[0])
    assert wrong(check(stored, layout, statuses)) == {"duplicated": 1}


def test_the_commits_of_a_batch_are_judged_one_by_one() -> None:
    """Params, metrics and tags of a batch are three commits; each may end its own way."""
    layout = layout_of("batch", writers=1)
    statuses = all_ok(layout, 3)
    stored = perfect(layout, statuses)
    params, metrics, tags = 3, 4, 5  # the commits of the second batch
    for commit, rows in ((params, 2), (metrics, 5), (tags, 3)):
        statuses[0][commit] = FAIL
        assert wrong(check(stored, layout, statuses)) == {"unexpected": rows}
        statuses[0][commit] = INFO
        tally = check(stored, layout, statuses)
        assert (wrong(tally), tally.recovered) == ({}, rows)
        statuses[0][commit] = planted.OK


def test_unknown_commits_that_are_absent_are_indeterminate() -> None:
    layout = layout_of("batch", writers=1)
    statuses = all_ok(layout, 3)
    stored = perfect(layout, statuses)
    statuses[0][3], statuses[0][5] = INFO, INFO
    del stored.params[2:4]
    del stored.tags[3:6]
    tally = check(stored, layout, statuses)
    assert (wrong(tally), tally.indeterminate, tally.recovered) == ({}, 5, 0)
