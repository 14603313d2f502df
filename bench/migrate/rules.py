"""Which values of a column a target can't hold as they are: conditions in the source's own SQL.

A condition is cheap and errs on the safe side; where SQL can't tell, it picks candidates, and Python decides.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from bench.migrate.catalog import Column, Kind
from bench.migrate.limits import MYSQL, POSTGRESQL, octets_on_mysql
from bench.migrate.sql import quoted

_LARGEST: Final = "1.7976931348623157e308"
_JSON_DEPTH: Final = 100  # of documents, in MySQL
_INT64: Final = range(-(2**63), 2**64)  # MySQL's JSON keeps integers up to the largest unsigned one
_TYPES: Final = {Kind.TEXT: "text", Kind.INTEGER: "integer", Kind.FLOAT: "real", Kind.BYTES: "blob"}
_TRUNCATE: Final = "shorten it in the source, or delete its row"
_CORRECT: Final = "correct it in the source"


@dataclass(frozen=True)
class Rule:
    """Rows where ``condition`` holds have a value that the target can't hold.

    With ``bad``, they are candidates only, and it decides on the column's value: `str`, bytes where it is no UTF-8.
    """

    column: str
    condition: str
    reason: str
    remedy: str
    bad: Callable[[Any], bool] | None = None


def of_column(source: Column, target: Column, store: str, into: str, refers: bool) -> Iterator[Rule]:
    """The rules for a column of a source (a ``store``) that goes ``into`` a target.

    ``refers`` says that a foreign key of this column alone is looked at anyway: its values are then those of another
    column, which has rules of its own.
    """
    name = quoted(store, source.name)
    if source.nullable and not target.nullable:
        yield Rule(source.name, f"{name} IS NULL", f"NULL, which {into} refuses in this column", "give it a value")
    if source.generated or (refers and store == "sqlite"):
        return
    if store == "sqlite" and source.kind in _TYPES:
        right = _TYPES[source.kind]
        reason = f"not {_a(right)}, which SQLite takes in any column and {into} does not"
        if into == "sqlite":
            reason = f"not {_a(right)}, whose equality could not be proved"
        yield Rule(source.name, f"typeof({name}) NOT IN ('{right}', 'null')", reason, _CORRECT)
    yield from _OF_KIND[source.kind](_Way(source, target, store, into))


def octets(store: str, name: str, kind: Kind = Kind.TEXT) -> str:
    """How many bytes the value of a quoted column of this kind has: text, bytes or JSON."""
    if store == "sqlite":
        return f"length(CAST({name} AS BLOB))"
    return f"octet_length({name}{'::text' if kind is Kind.JSON and store in POSTGRESQL else ''})"


def _a(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


@dataclass(frozen=True)
class _Way:
    """From a column of a store into a column of a target."""

    source: Column
    target: Column
    store: str
    into: str

    @property
    def name(self) -> str:
        """The source's column, quoted."""
        return quoted(self.store, self.source.name)

    def rule(self, condition: str, reason: str, remedy: str, bad: Callable[[Any], bool] | None = None) -> Rule:
        """A rule of the column."""
        return Rule(self.source.name, condition, reason, remedy, bad)


def _text(way: _Way) -> Iterator[Rule]:
    name = way.name
    if way.store == "sqlite":  # anything that is not plain ASCII; GLOB and length() end at a NUL, as C does
        suspect = f"({name} GLOB '*[^ -~]*' OR {octets(way.store, name)} <> length({name}))"
        condition = f"(typeof({name}) = 'text' AND {suspect})"
        yield way.rule(condition, "text that is no UTF-8", _CORRECT, _no_utf8)
        if way.into in POSTGRESQL:
            yield way.rule(condition, f"a NUL character, which {way.into} refuses in text", _CORRECT, _has_nul)
    elif way.store in MYSQL and way.into in POSTGRESQL:
        condition = f"LOCATE(x'00', CAST({name} AS BINARY)) > 0"
        yield way.rule(condition, f"a NUL character, which {way.into} refuses in text", _CORRECT)
    most = way.target.characters
    if most and way.into != "sqlite" and (way.store == "sqlite" or (way.source.characters or most + 1) > most):
        length = f"{octets(way.store, name)} > {most} AND {_characters(way.store, name, most)}"
        yield way.rule(f"({length})", f"longer than the {most} characters that {way.into} takes here", _TRUNCATE)
    yield from _bytes(way)


def _characters(store: str, name: str, most: int) -> str:
    if store != "sqlite":
        return f"char_length({name}) > {most}"
    return f"length(replace({name}, char(0), ' ')) > {most}"


def _bytes(way: _Way) -> Iterator[Rule]:
    most = way.target.octets if way.into in MYSQL else None
    held = way.source.octets or (octets_on_mysql(way.source) if way.store in MYSQL else None)
    if most and (held is None or held > most):
        name = way.name
        reason = f"longer than the {most} bytes that {way.into} takes here"
        yield way.rule(f"{octets(way.store, name, way.source.kind)} > {most}", reason, _TRUNCATE)


def _integer(way: _Way) -> Iterator[Rule]:
    bits, held = way.target.bits, 64 if way.store == "sqlite" else way.source.bits or 64
    if bits and bits < held:
        name, most = way.name, 2 ** (bits - 1) - 1
        reason = f"beyond the {bits} bits that {way.into} has for it"
        remedy = "give its row another number, and all rows that refer to it"
        yield way.rule(f"{name} NOT BETWEEN {-most - 1} AND {most}", reason, remedy)


def _double(way: _Way) -> Iterator[Rule]:
    name = way.name
    remedy = f"store ±{_LARGEST}, as MLflow does for infinities, and 0 with is_nan for NaN"
    if way.store == "sqlite" and way.into in MYSQL:
        yield way.rule(f"abs({name}) > {_LARGEST}", f"an infinity, which {way.into} does not have", remedy)
    if way.store in POSTGRESQL and way.into in MYSQL:
        values = "('NaN', 'Infinity', '-Infinity')"
        yield way.rule(f"{name} IN {values}", f"an infinity or NaN, which {way.into} does not have", remedy)
    if way.store in POSTGRESQL and way.into == "sqlite":
        yield way.rule(f"{name} = 'NaN'", "NaN, of which SQLite makes NULL", remedy)
    if way.target.kind is Kind.SINGLE and way.source.kind is not Kind.SINGLE:
        reason = f"a double, of which {way.into} would keep the first 24 bits: MLflow's column is a FLOAT there"
        yield way.rule(f"{name} IS NOT NULL", reason, "round it to single precision", _not_single)


def _boolean(way: _Way) -> Iterator[Rule]:
    name = way.name
    if way.store == "sqlite":
        condition = f"({name} IS NOT NULL AND (typeof({name}) <> 'integer' OR {name} NOT IN (0, 1)))"
        yield way.rule(condition, "a boolean that is neither 0 nor 1", _CORRECT)
    elif way.store in MYSQL:
        yield way.rule(f"{name} NOT IN (0, 1)", "a boolean that is neither 0 nor 1", _CORRECT)


def _date(way: _Way) -> Iterator[Rule]:
    name, reason = way.name, "not a date of the years 1 to 9999, written as YYYY-MM-DD"
    outside = f"({name} < '0001-01-01' OR {name} > '9999-12-31')"
    if way.store == "sqlite":
        outside = f"({name} IS NOT NULL AND (date({name}, '+0 days') IS NOT {name} OR {outside}))"
    yield way.rule(outside, reason, _CORRECT)


def _json(way: _Way) -> Iterator[Rule]:
    """MySQL parses JSON and keeps what it understood; the others keep the text, PostgreSQL if it is JSON."""
    present = f"{way.name} IS NOT NULL"
    if way.store == "sqlite":
        reason = f"no JSON, which {way.into} would not take, or could not be proved equal"
        yield way.rule(present, reason, _CORRECT, _no_json)
    if way.into in MYSQL and way.store not in MYSQL:
        reason = f"JSON that {way.into} would not keep: numbers beyond 64 bits or doubles, keys twice, or too deep"
        yield way.rule(present, reason, "write such numbers as text", _not_kept_by_mysql)


_OF_KIND: Final = {
    Kind.TEXT: _text,
    Kind.INTEGER: _integer,
    Kind.FLOAT: _double,
    Kind.SINGLE: _double,
    Kind.BOOLEAN: _boolean,
    Kind.JSON: _json,
    Kind.DATE: _date,
    Kind.BYTES: _bytes,
}


def _no_utf8(value: object) -> bool:
    return isinstance(value, bytes)


def _has_nul(value: object) -> bool:
    return isinstance(value, str) and "\0" in value


def _not_single(value: Any) -> bool:
    try:
        return bool(struct.unpack("f", struct.pack("f", value))[0] != value)
    except (OverflowError, struct.error):
        return True


class _Refused(ValueError):
    """JSON that is not kept."""


def _no_json(value: object) -> bool:
    """Numbers of SQLite's own are JSON: its columns of this type make numbers of the texts of numbers."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, int):
        return False
    try:
        _parsed(value)
    except (ValueError, RecursionError, TypeError):
        return True
    return False


def _not_kept_by_mysql(value: object) -> bool:
    try:
        document = _parsed(value, kept=True) if isinstance(value, str) else None
    except (_Refused, RecursionError):
        return True
    except (ValueError, TypeError):
        return False  # is not JSON at all, which the other rule says
    return _depth(document) > _JSON_DEPTH or not _encodable(document)


def _parsed(value: Any, kept: bool = False) -> Any:
    def constant(text: str) -> float:
        raise ValueError(f"{text} is no JSON")

    def number(text: str) -> float:
        found = float(text)
        if math.isinf(found) or Decimal(text) != Decimal(repr(found)):
            raise _Refused(text)
        return found

    def integer(text: str) -> int:
        found = int(text)
        if found not in _INT64:
            raise _Refused(text)
        return found

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) < len(pairs):
            raise _Refused("a key twice")
        return dict(pairs)

    if not kept:
        return json.loads(value, parse_constant=constant)
    return json.loads(value, parse_constant=constant, parse_float=number, parse_int=integer, object_pairs_hook=once)


def _depth(document: Any) -> int:
    """How deep arrays and objects lie in each other, without recursion."""
    deepest, left = 0, [(document, 1)]
    while left:
        one, depth = left.pop()
        deepest = max(deepest, depth)
        inner = one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
        left.extend((value, depth + 1) for value in inner)
    return deepest


def _encodable(document: Any) -> bool:
    """Whether its texts are Unicode: halves of surrogate pairs are not."""
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
