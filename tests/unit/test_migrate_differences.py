"""Rows that differ, from what both sides spilled: all of them, in key order, as a comparison of multisets says."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.migrate import spill
from bench.migrate.canonical import Hasher, canonical
from bench.migrate.catalog import Column, Kind, Table
from bench.migrate.differences import Difference, as_changes, compared
from bench.migrate.digest import Reading, TableDigest, readings
from bench.migrate.proof import RowDifference

TEXT, DOUBLE = Kind.TEXT, Kind.FLOAT
Rows = list[tuple[Any, ...]]


def column(name: str, kind: Kind = TEXT) -> Column:
    return Column(name, kind, kind.value, True)


def reading(*kinds: Kind, keys: int) -> Reading:
    columns = tuple(column(f"c{n}", kind) for n, kind in enumerate(kinds))
    return Reading("things", columns, kinds, keys)


def differences(source: Rows, target: Rows, of: Reading) -> list[Difference]:
    ours, theirs = (sorted((spill._record(row, of) for row in rows), key=spill.KEY) for rows in (source, target))
    return list(compared(iter(ours), iter(theirs), of))


def named(source: Rows, target: Rows, of: Reading) -> list[RowDifference]:
    async def given() -> AsyncIterator[Difference]:
        for one in differences(source, target, of):
            yield one

    async def whole() -> list[RowDifference]:
        return [one.named(of) async for one in as_changes(given(), of)]

    return asyncio.run(whole())


VALUES = st.sampled_from([None, "a", "A", "b", 1, 1.0, 0.5, b"a", "1"])
ROWS = st.lists(st.tuples(VALUES, VALUES), max_size=12)


@given(ROWS, ROWS, st.sampled_from([TEXT, Kind.INTEGER, DOUBLE]), st.integers(1, 2))
def test_differences_are_those_of_the_multisets(source: Rows, target: Rows, kind: Kind, keys: int) -> None:
    of = reading(kind, TEXT, keys=keys)

    def counted(rows: Rows) -> Counter[Any]:
        return Counter(tuple(canonical(value, of.kinds[n]) for n, value in enumerate(row)) for row in rows)

    found = differences(source, target, of)
    gone = counted([one.source for one in found if one.source is not None])
    come = counted([one.target for one in found if one.target is not None])
    assert gone == counted(source) - counted(target)
    assert come == counted(target) - counted(source)
    assert all((one.sort == "changed") == (one.source is not None and one.target is not None) for one in found)
    assert keys == 1 or not any(one.changed for one in found)  # where all columns are the key, rows come and go
    keyed = [canonical((one.source or one.target or ())[0], kind) for one in found]
    assert keyed == sorted(keyed)


def test_a_changed_row_names_its_columns_and_both_values() -> None:
    of = reading(TEXT, DOUBLE, TEXT, keys=1)
    (one,) = named([("a", 0.5, None)], [("a", 0.25, "x")], of)
    assert (one.table, one.key, one.sort) == ("things", {"c0": '"a"'}, "changed")
    assert [(cell.column, cell.source, cell.target) for cell in one.cells] == [
        ("c1", "0.5", "0.25"),
        ("c2", "NULL", '"x"'),
    ]


def test_a_row_that_is_there_twice_is_extra() -> None:
    of = reading(TEXT, keys=1)
    assert [one.sort for one in differences([("a",)], [("a",), ("a",)], of)] == ["extra"]
    assert [one.sort for one in differences([("a",), ("a",)], [("a",)], of)] == ["missing"]


def test_a_double_in_the_key_is_named_as_changed() -> None:
    """As in MLflow's metrics, whose key has all columns."""
    of = reading(TEXT, TEXT, DOUBLE, Kind.BOOLEAN, keys=4)
    source = [("loss", "run1", 0.5, 0), ("loss", "run2", 0.0, 1), ("loss", "run3", 1.0, 0)]
    target = [("loss", "run1", 0.25, 0), ("loss", "run2", 0.0, 0), ("lost", "run3", 1.0, 0)]
    one, flag, gone, come = named(source, target, of)
    assert (one.sort, one.key) == ("changed", {"c0": '"loss"', "c1": '"run1"', "c3": "False"})
    assert [(cell.column, cell.source, cell.target) for cell in one.cells] == [("c2", "0.5", "0.25")]
    assert [(cell.column, cell.source, cell.target) for cell in flag.cells] == [("c3", "True", "False")]
    assert [(gone.sort, gone.key["c0"]), (come.sort, come.key["c0"])] == [("missing", '"loss"'), ("extra", '"lost"')]


def test_runs_on_disk_come_back_in_key_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill, "_RUN_BYTES", 5_000)
    monkeypatch.setattr(spill, "_READ_BYTES", 1_000)
    of = reading(Kind.INTEGER, TEXT, keys=1)
    rows = [(number * 7919 % 1000, "x" * (number % 50)) for number in range(1000)]
    runs = spill._Runs(tmp_path / "things.source")
    for row in rows:
        runs.add(spill._record(row, of))
    runs.end()
    assert len(runs.paths) > 10
    assert [values for _, values in spill.merged(runs.paths)] == sorted(rows)


def test_readings_take_what_both_sides_have() -> None:
    ours = Table("t", (column("b"), column("a"), column("new"), column("flag", Kind.INTEGER)), ("a",))
    theirs = Table("t", (column("flag", Kind.BOOLEAN), column("b", Kind.JSON), column("a")), ("a", "b"))
    source, target = readings(ours, theirs)
    assert source.names == target.names == ("a", "b", "flag")
    assert source.kinds == target.kinds == (TEXT, Kind.JSON, Kind.BOOLEAN)
    assert source.keys == target.keys == 1


def test_without_the_whole_key_all_columns_are_it() -> None:
    ours = Table("t", (column("a"), column("b"), column("c")), ("a", "c"))
    source, _ = readings(ours, Table("t", (column("b"), column("a")), ("a",)))
    assert (source.names, source.keys) == (("a", "b"), 2)


def test_a_digest_survives_the_pipe() -> None:
    of = reading(TEXT, keys=1)
    whole = TableDigest.empty()
    whole.add(Hasher(b"s", of.kinds, 1), [("a",), ("b",), ("b",)])
    again = TableDigest.unpacked(whole.packed())
    assert again.rows == 3
    assert not again.differing(whole).any()
    assert again.differing(TableDigest.empty()).sum() == 2
