"""What a copy makes of values on their way, and of the keys where it can go on."""

import json
import math
import struct
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import BadInput
from bench.identity import DAY_MS
from bench.migrate.applying import Spool, parked, parking, uniques
from bench.migrate.catalog import Column, ForeignKey, Index, Kind, Table
from bench.migrate.copying import batch_rows, continuable, reading
from bench.migrate.progress import _read, _written
from bench.migrate.targets.mysql import Texts, double, octets, parts, rows_as_literals
from bench.migrate.targets.timescaledb import interval_ms
from bench.migrate.values import conversion

KINDS = {kind: Column(kind.name.lower(), kind, "", True) for kind in Kind}


def table(*columns: Column, key: tuple[str, ...] = ("a",), **more: object) -> Table:
    return Table("t", columns, key, **more)  # type: ignore[arg-type]


def column(name: str, kind: Kind = Kind.TEXT, nullable: bool = False, characters: int | None = None) -> Column:
    return Column(name, kind, "", nullable, characters=characters)


# Values


def test_nothing_to_convert_keeps_the_rows() -> None:
    rows = [(1, "a", 0.5)]
    columns = [KINDS[Kind.INTEGER], KINDS[Kind.TEXT], KINDS[Kind.FLOAT]]
    assert conversion(columns, "mysql")(rows) is rows


@pytest.mark.parametrize(
    ("target", "no", "yes"),
    [("postgresql", False, True), ("timescaledb", False, True), ("mysql", 0, 1), ("sqlite", 0, 1)],
)
def test_booleans(target: str, no: object, yes: object) -> None:
    rows = [(0,), (1,), (False,), (True,), (None,)]
    found = conversion([KINDS[Kind.BOOLEAN]], target)(rows)
    assert [row[0] for row in found] == [no, yes, no, yes, None]
    assert {type(row[0]) for row in found[:4]} == {type(no)}


def test_a_boolean_that_is_none_does_not_pass() -> None:
    with pytest.raises(KeyError):
        conversion([KINDS[Kind.BOOLEAN]], "postgresql")([(2,)])


@pytest.mark.parametrize("given_as", [date(2026, 2, 3), "2026-02-03"])
def test_dates(given_as: object) -> None:
    of = [KINDS[Kind.DATE]]
    assert conversion(of, "postgresql")([(given_as,), (None,)]) == [(date(2026, 2, 3),), (None,)]
    assert conversion(of, "mysql")([(given_as,), (None,)]) == [("2026-02-03",), (None,)]


def test_json_that_sqlite_took_for_a_number() -> None:
    assert conversion([KINDS[Kind.JSON]], "postgresql")([(12,), ('{"a": 1}',), (None,)]) == [
        ("12",),
        ('{"a": 1}',),
        (None,),
    ]


# MySQL's literals


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_doubles_are_written_with_all_their_bits(value: float) -> None:
    text = double(value)
    assert "e" in text
    assert struct.pack(">d", float(text)) == struct.pack(">d", value)


def test_rows_as_literals() -> None:
    columns = [KINDS[kind] for kind in (Kind.INTEGER, Kind.TEXT, Kind.FLOAT, Kind.BOOLEAN, Kind.BYTES)]
    made = rows_as_literals(columns, Texts())([(1, "it's \\ \0 100 %", 0.1, 1, b"\x00'"), (None,) * 5])
    assert made == ["(1,'it\\'s \\\\ \\0 100 %',0.1e0,1,X'0027')", "(NULL,NULL,NULL,NULL,NULL)"]
    assert octets(b"") == "X''"


@given(st.lists(st.text(alphabet="x", min_size=1, max_size=30), max_size=40), st.integers(1, 50))
def test_parts_hold_every_row_once(literals: list[str], most: int) -> None:
    found = list(parts(literals, most))
    assert ",".join(found) == ",".join(literals)
    assert all(len(part) <= most or "," not in part for part in found)


# Where a load can go on


def test_reading_after_a_key() -> None:
    of = table(column("a"), column("key"), key=("a", "key"))
    assert reading("mysql", of, True, ["x", "y"]) == (
        "SELECT `a`, `key` FROM `t` WHERE (`a`, `key`) > (?, ?) ORDER BY `a`, `key`"
    )
    assert reading("sqlite", of, False, None) == 'SELECT "a", "key" FROM "t" NOT INDEXED'


def test_what_can_be_continued() -> None:
    assert continuable(table(column("a")))
    assert not continuable(table(column("a", nullable=True)))
    assert not continuable(table(column("a"), column("b"), uniques=(("b",),)))
    assert not continuable(table(column("a"), column("b"), indexes=(Index("i", ("b",), True),)))
    assert continuable(table(column("a"), column("b"), indexes=(Index("i", ("b",)),)))


def test_long_rows_come_in_small_batches() -> None:
    assert batch_rows(100, 20_000) == 20_000
    assert batch_rows(2**20, 20_000) == 8
    assert batch_rows(2**30, 20_000) == 4


@given(
    st.lists(
        st.none()
        | st.integers()
        | st.text()
        | st.binary()
        | st.dates()
        | st.floats(allow_nan=False, allow_infinity=False)
    )
)
def test_a_key_comes_back_from_the_record(key: list[object]) -> None:
    written = json.loads(json.dumps([_written(value) for value in key]))
    assert [repr(_read(value)) for value in written] == [repr(value) for value in key]


# Unique values that move from row to row


def test_what_is_parked() -> None:
    of = table(column("a", Kind.INTEGER), column("owner"), column("name", characters=250), key=("a",),
               uniques=(("owner", "name"), ("a",)), foreign_keys=(ForeignKey(("owner",), "o", ("id",)),))  # fmt: skip
    assert uniques(of) == [("owner", "name")]
    spot = parking(of, ("owner", "name"))
    assert spot.name == "name"
    assert parked(spot) != parked(spot)
    assert len(parked(spot)) <= 32
    assert parked(column("n", Kind.INTEGER)) < 0
    assert parked(column("n", Kind.INTEGER, nullable=True)) is None


def test_what_can_not_be_parked() -> None:
    of = table(column("a"), column("b"), uniques=(("b",),), foreign_keys=(ForeignKey(("b",), "o", ("id",)),))
    with pytest.raises(BadInput, match="--start-over"):
        parking(of, ("b",))


@given(st.lists(st.tuples(st.integers(), st.text()), max_size=3000))
def test_a_spool_gives_back_all_rows_twice(rows: list[tuple[int, str]]) -> None:
    spool = Spool()
    for row in rows:
        spool.add(row)
    for _ in (1, 2):
        assert [row for batch in spool.batches() for row in batch] == rows
    assert spool.rows == len(rows)
    spool.close()


# TimescaleDB's chunks


def test_chunks() -> None:
    assert interval_ms(None) == DAY_MS
    assert interval_ms((5, 5)) == DAY_MS
    assert interval_ms((0, 90 * DAY_MS)) == DAY_MS
    for last in (200 * DAY_MS, 3_650 * DAY_MS, 2**63 - 1):
        days = interval_ms((0, last)) // DAY_MS
        assert math.ceil((last + 1) / (days * DAY_MS)) < 200
        assert interval_ms((0, last)) % DAY_MS == 0
