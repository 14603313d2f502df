"""The digest of a table: the same for the same rows, in any order, batch and raw form, and for no others."""

import math
import struct
from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bench.migrate.canonical import Hasher, canonical, shown
from bench.migrate.catalog import Kind
from bench.migrate.digest import TableDigest

SECRET = b"s" * 32
ODD: list[Any] = [
    None, True, False, 0, 1, 2, -1, 2**63, -(2**64), 0.0, -0.0, 1.0, 0.5, math.nan, math.inf, -math.inf, "", "1",
    "true", "0", "1.0", "2026-01-31", "2026-1-31", "null", "{}", "\0", "a\0", "é", "😀", "\udcff", b"", b"1", b"\0",
    b"\1", b"\xff", 5e-324, 1.7976931348623157e308, date(2026, 1, 31), "[1, 2]", "[1,2]",
]  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(ODD),
    st.integers(-(2**66), 2**66),
    st.floats(),
    st.text(max_size=8),
    st.text(alphabet="ab", min_size=250, max_size=260),
    st.binary(max_size=8),
    st.dates(),
    st.booleans(),
)
KINDS = st.lists(st.sampled_from(list(Kind)), min_size=1, max_size=5)
Rows = list[tuple[Any, ...]]


@st.composite
def tables(draw: st.DrawFn, fewest: int = 0) -> tuple[list[Kind], Rows]:
    """Kinds of columns, and rows of whatever a database might keep in them: often what fits, often anything."""
    kinds = draw(KINDS)
    fitting = {
        Kind.INTEGER: st.integers(-(2**63), 2**63 - 1),
        Kind.FLOAT: st.floats(),
        Kind.SINGLE: st.floats(width=32),
        Kind.TEXT: st.text(max_size=8),
        Kind.BOOLEAN: st.integers(0, 1),
        Kind.BYTES: st.binary(max_size=8),
        Kind.JSON: st.sampled_from(["{}", "[1]", '{"a":1}']),
        Kind.DATE: st.dates().map(str),
    }
    cells = [draw(st.sampled_from([fitting[kind], fitting[kind] | st.none(), VALUES])) for kind in kinds]
    rows = draw(st.lists(st.tuples(*cells), min_size=fewest, max_size=12))
    return kinds, rows


def digest(kinds: Sequence[Kind], rows: Rows, size: int = 1000, keys: int = 1) -> tuple[bytes, bytes]:
    found, hasher = TableDigest.empty(), Hasher(SECRET, kinds, keys)
    for start in range(0, len(rows), size):
        found.add(hasher, rows[start : start + size])
    return found.counts.tobytes(), found.sums.tobytes()


def cells(kinds: Sequence[Kind], rows: Rows) -> list[Any]:
    return sorted(tuple(canonical(value, kind) for value, kind in zip(row, kinds, strict=True)) for row in rows)


@given(tables(), st.randoms(use_true_random=False), st.integers(1, 5))
def test_order_and_batches_do_not_count(table: tuple[list[Kind], Rows], chance: Any, size: int) -> None:
    kinds, rows = table
    shuffled = list(rows)
    chance.shuffle(shuffled)
    assert digest(kinds, rows) == digest(kinds, shuffled, size) == digest(kinds, rows, 1)


@given(tables(1), st.data())
def test_any_changed_cell_shows(table: tuple[list[Kind], Rows], data: st.DataObject) -> None:
    kinds, rows = table
    row, column = data.draw(st.integers(0, len(rows) - 1)), data.draw(st.integers(0, len(kinds) - 1))
    instead = data.draw(VALUES)
    assume(canonical(instead, kinds[column]) != canonical(rows[row][column], kinds[column]))
    changed = [list(one) for one in rows]
    changed[row][column] = instead
    assert digest(kinds, rows) != digest(kinds, [tuple(one) for one in changed])


@given(tables(2), st.data())
def test_swapped_cells_show(table: tuple[list[Kind], Rows], data: st.DataObject) -> None:
    kinds, rows = table
    one, other = (data.draw(st.integers(0, len(rows) - 1)) for _ in range(2))
    column = data.draw(st.integers(0, len(kinds) - 1))
    changed = [list(row) for row in rows]
    changed[one][column], changed[other][column] = rows[other][column], rows[one][column]
    swapped = [tuple(row) for row in changed]
    assert (digest(kinds, rows) == digest(kinds, swapped)) == (cells(kinds, rows) == cells(kinds, swapped))


@given(tables(1), st.data())
def test_missing_extra_and_doubled_rows_show(table: tuple[list[Kind], Rows], data: st.DataObject) -> None:
    kinds, rows = table
    place = data.draw(st.integers(0, len(rows) - 1))
    whole = digest(kinds, rows)
    assert digest(kinds, rows[:place] + rows[place + 1 :]) != whole
    assert digest(kinds, [*rows, rows[place]]) != whole
    assert digest(kinds, [*rows, rows[place], rows[place]]) != whole


@settings(max_examples=20)
@given(st.lists(st.integers(0, 3), min_size=4, max_size=30), st.randoms(use_true_random=False))
def test_equal_columns_in_other_company_show(runs: list[int], chance: Any) -> None:
    """Each column is the same multiset, so that whatever adds up over columns alone sees no difference."""
    rows = [("loss", step, f"run{run}", 0.5) for step, run in enumerate(runs)]
    order = list(runs)
    chance.shuffle(order)
    assume(order != runs)
    moved = [("loss", step, f"run{run}", 0.5) for step, run in enumerate(order)]
    kinds = [Kind.TEXT, Kind.INTEGER, Kind.TEXT, Kind.FLOAT]
    assert digest(kinds, rows, keys=3) != digest(kinds, moved, keys=3)


@pytest.mark.parametrize(
    ("kind", "forms"),
    [
        (Kind.BOOLEAN, [True, 1, 1.0, "1", "true", "True", "t", b"\1"]),
        (Kind.BOOLEAN, [False, 0, -0.0, "0", "false", "FALSE", b"\0"]),
        (Kind.INTEGER, [3, 3.0]),
        (Kind.INTEGER, [2**64, 2.0**64]),
        (Kind.FLOAT, [3, 3.0]),
        (Kind.FLOAT, [0.0, -0.0, 0]),
        (Kind.SINGLE, [0.25, struct.unpack("f", struct.pack("f", 0.25))[0]]),
        (Kind.DATE, [date(2026, 1, 31), "2026-01-31"]),
        (Kind.JSON, ['{"b": [1, 2.50], "a": "é"}', '{"a":"\\u00e9","b":[1,2.5]}', {"a": "é", "b": [1, 2.5]}]),
        (Kind.JSON, ["7", 7, " 7 "]),
        (Kind.BYTES, [b"ab", bytearray(b"ab"), memoryview(b"ab")]),
    ],
)
def test_raw_forms_of_one_value_are_equal(kind: Kind, forms: list[Any]) -> None:
    alone = {digest([kind], [(form,)]) for form in forms}
    among_nulls = {digest([kind], [(form,), (None,), (form,)]) for form in forms}
    among_others = {digest([kind], [(form,), ("neither",), (form,)]) for form in forms}
    assert [len(alone), len(among_nulls), len(among_others)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        (Kind.FLOAT, 0.1, math.nextafter(0.1, 1)),
        (Kind.FLOAT, 0.0, 5e-324),
        (Kind.FLOAT, 1.7976931348623157e308, math.inf),
        (Kind.FLOAT, 0.0, math.nan),
        (Kind.FLOAT, 0.0, None),
        (Kind.FLOAT, 2.0**53, 2**53 + 1),
        (Kind.FLOAT, "1.5", 1.5),
        (Kind.BOOLEAN, 0, 1),
        (Kind.BOOLEAN, 1, 2),
        (Kind.BOOLEAN, False, None),
        (Kind.BOOLEAN, 1, "yes"),
        (Kind.INTEGER, 1, "1"),
        (Kind.INTEGER, 1, 1.5),
        (Kind.INTEGER, 0, None),
        (Kind.INTEGER, 2**63 - 1, 2**63),
        (Kind.TEXT, "loss", "Loss"),
        (Kind.TEXT, "a", "a "),
        (Kind.TEXT, "é", "e\u0301"),
        (Kind.TEXT, "a", "a\0"),
        (Kind.TEXT, "", None),
        (Kind.TEXT, "a", b"a"),
        (Kind.TEXT, "1", 1),
        (Kind.TEXT, "\udcff", "ÿ"),
        (Kind.TEXT, "x" * 300 + "a", "x" * 300 + "b"),
        (Kind.BYTES, b"a", "a"),
        (Kind.JSON, "1", "1.0"),
        (Kind.JSON, "null", None),
        (Kind.JSON, "[1,2]", "[2,1]"),
        (Kind.JSON, '"a"', "a"),
        (Kind.JSON, "1e400", "1e401"),
        (Kind.JSON, '{"a": 1, "a": 2}', '{"a": 2}'),
        (Kind.JSON, "0.1000000000000000055511", "0.1"),
        (Kind.JSON, "NaN", "null"),
        (Kind.DATE, "2026-01-31", "2026-1-31"),
    ],
)
def test_other_values_differ(kind: Kind, one: Any, other: Any) -> None:
    for company in ([], [(None,)], [("x",)], [(7,)]):
        assert digest([kind], [(one,), *company]) != digest([kind], [(other,), *company])
    assert shown(one, kind) != shown(other, kind)


@given(VALUES, VALUES, st.sampled_from(list(Kind)))
def test_what_is_shown_tells_values_apart(one: Any, other: Any, kind: Kind) -> None:
    if any(isinstance(value, float) and math.isnan(value) for value in (one, other)):
        return  # of NaNs only the bits differ, and a person is told that both are
    same = canonical(one, kind) == canonical(other, kind)
    assert (shown(one, kind, 40) == shown(other, kind, 40)) == same


@given(st.lists(st.floats(allow_nan=False), min_size=2))
def test_doubles_are_in_the_order_of_numbers(values: list[float]) -> None:
    ordered = sorted(values, key=lambda value: canonical(value, Kind.FLOAT))
    assert ordered == sorted(values)


def test_another_secret_gives_other_digests() -> None:
    rows = [(n, float(n)) for n in range(10)]
    kinds = [Kind.INTEGER, Kind.FLOAT]
    ours, theirs = (Hasher(secret, kinds, 1).rows(rows)[1] for secret in (SECRET, b"t" * 32))
    assert not np.intersect1d(ours, theirs).size


def test_remembered_texts_begin_anew_when_they_are_many() -> None:
    rows = [(f"text {n}",) for n in range(70_000)]
    hasher = Hasher(SECRET, [Kind.TEXT], 1)
    first = [hasher.rows(rows[start : start + 30_000])[1] for start in (0, 30_000, 60_000)]
    again = hasher.rows(rows[:30_000])[1]
    assert np.array_equal(first[0], again)
    assert len(np.unique(np.concatenate(first, axis=1)[0])) == len(rows)
