"""Cells in one form whatever database they came from, and keyed hashes of the rows that they make.

**Cells.** A canonical cell is a pair ``(tag, payload)`` that can be compared and sorted: two cells are equal exactly if
their values are. A value that its column's kind does not expect (SQLite keeps text in an integer column) is canonical
by its own type, so that it differs from everything of the expected one, unless it is exactly the same number or
boolean. Doubles are their 64 bits, with -0.0 as 0.0, because SQLite does not keep that sign: the one exception.
JSON is what its text means, since MySQL does not keep the text; text that is not UTF-8 is its bytes.

**Rows.** A row's hash has two lanes of 64 bits. In each the cells go through a chain ``state = mix(state + cell)``,
key columns first; constants are drawn from the proof's random secret, others for each lane, column and tag, and
texts come in as BLAKE2b keyed with it. ``mix`` is a bijection, so that one changed number always changes a row's hash,
in both lanes. A set of rows is the sum of their hashes modulo 2**64 in each lane, 128 bits together: a sum does not
depend on the order of rows, can be had from any batches, and sees a row that is there twice, which an exclusive or
would not. For a sum to prove anything, hashes must not be linear in the cells: if they were, two runs that swapped a
value would add up to the same. Hence multiplications, each between shifts that fold high bits into low ones, and the
chain, which makes the hash of a cell depend on all cells before it. Because nobody knows the secret when the rows are
written, different rows add up to the same digest with a probability of about 2**-128, and another proof of the same
stores would ask again with another secret.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.migrate.catalog import Kind
from bench.stores.base import Row

NULL, BOOLEAN, INTEGER, DOUBLE, DATE, TEXT, BYTES, JSON, OTHER = range(9)
BUCKET_BITS: Final = 16
BUCKETS: Final = 1 << BUCKET_BITS

Cell = tuple[int, Any]  # the payload: 0, an int (of doubles: of the order of numbers), or bytes
Lanes = NDArray[np.uint64]  # shape (2, rows)

_WORD: Final = 2**64 - 1
_LONG: Final = OTHER + 1  # lanes of integers beyond 64 bits
_SHIFTS: Final = (np.uint64(32), np.uint64(29), np.uint64(32))
_BUCKET_SHIFT: Final = np.uint64(64 - BUCKET_BITS)
_REMEMBERED_CHARACTERS: Final = 256  # texts up to this length are remembered
_REMEMBERED: Final = 1 << 15  # so many of a column
_BOOLEANS: Final = {"1": 1, "true": 1, "t": 1, "0": 0, "false": 0, "f": 0}
_INT64: Final = range(-(2**63), 2**63)


def canonical(value: Any, kind: Kind) -> Cell:
    """The canonical cell of ``value``, read from a column of this kind."""
    if value is None:
        return NULL, 0
    as_kind = _OF_KIND.get(kind)
    found = None if as_kind is None else as_kind(value)
    return _own(value) if found is None else found


def double(value: float) -> Cell:
    """The cell of a double: its bits, as an integer in the order of the numbers."""
    (bits,) = struct.unpack("<q", struct.pack("<d", value + 0.0))  # -0.0 + 0.0 is 0.0
    return DOUBLE, bits ^ (bits >> 63 & 0x7FFF_FFFF_FFFF_FFFF)


def raw_bytes(text: str) -> bytes:
    """The bytes that were read as ``text``; what was not UTF-8 among them is escaped in it."""
    return text.encode("utf-8", "surrogateescape")


def shown(value: Any, kind: Kind, longest: int = 1_000) -> str:
    """``value`` in words that no other value has (see `bench.migrate.proof`); long ones cut, with their digest."""
    tag, payload = canonical(value, kind)
    if tag == NULL:
        return "NULL"
    if tag == BOOLEAN:
        return repr(bool(payload))
    if tag == INTEGER:
        return repr(payload)
    if tag == DOUBLE:
        return repr(float(value) + 0.0)
    if tag == DATE:
        return date.fromordinal(payload).isoformat()
    text = _in_words(tag, payload)
    if len(text) <= longest:
        return text
    return f"{text[:longest]}… ({len(text)} characters, BLAKE2b {blake2b(payload, digest_size=8).hexdigest()})"


def _in_words(tag: int, payload: bytes) -> str:
    if tag == BYTES:
        return f"0x{payload.hex()}"
    text = payload.decode("utf-8", "surrogateescape")
    if tag == TEXT:
        seen = "".join(one for one in text if one >= " ")  # what is below, JSON writes as an escape anyway
        return json.dumps(text, ensure_ascii=not seen.isprintable())
    return f"JSON {text}" if tag == JSON else text


def _own(value: Any) -> Cell:
    if isinstance(value, bool):
        return BOOLEAN, int(value)
    if isinstance(value, int):
        return INTEGER, value
    if isinstance(value, float):
        return double(value)
    if isinstance(value, str):
        return TEXT, raw_bytes(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return BYTES, bytes(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        return DATE, value.toordinal()
    return OTHER, f"{type(value).__name__} {value}".encode()


def _boolean(value: Any) -> Cell | None:
    if isinstance(value, int | float):
        return (BOOLEAN, int(value)) if value in (0, 1) else None
    if isinstance(value, str):
        found = _BOOLEANS.get(value.lower())
        return None if found is None else (BOOLEAN, found)
    return (BOOLEAN, value[0]) if value in (b"\0", b"\1") else None  # a BIT(1)


def _integer(value: Any) -> Cell | None:
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return INTEGER, int(value)
    return None


def _double(value: Any) -> Cell | None:
    if isinstance(value, float):
        return double(value)
    if isinstance(value, int):
        try:
            return double(float(value)) if int(float(value)) == value else None
        except OverflowError:
            return None
    return None


def _date(value: Any) -> Cell | None:
    if isinstance(value, str):
        try:
            found = date.fromisoformat(value)
        except ValueError:
            return None
        return (DATE, found.toordinal()) if found.isoformat() == value else None
    return None


def _json(value: Any) -> Cell | None:
    """What the text means; a number is JSON too, since SQLite makes numbers of the texts of numbers there."""
    try:
        if isinstance(value, str):
            value = json.loads(value, parse_constant=_refuse, parse_float=_exact, object_pairs_hook=_once)
        elif not isinstance(value, int | float | dict | list):
            return None
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (ValueError, RecursionError, TypeError):
        return None
    return JSON, text.encode()


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")


def _exact(text: str) -> float:
    """Numbers beyond doubles, or with digits that no double has, would look like their neighbours."""
    found = float(text)
    if found in (float("inf"), float("-inf")) or Decimal(text) != Decimal(repr(found)):
        raise ValueError(f"{text} is no double")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A document that has a key twice keeps it as text only."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key twice")
    return found


_OF_KIND: Final[dict[Kind, Callable[[Any], Cell | None]]] = {
    Kind.BOOLEAN: _boolean,
    Kind.INTEGER: _integer,
    Kind.FLOAT: _double,
    Kind.SINGLE: _double,  # read as the double that it is
    Kind.DATE: _date,
    Kind.JSON: _json,
}


class Hasher:
    """Hashes the rows of one table: columns of these kinds, the first ``keys`` of which are its key."""

    def __init__(self, secret: bytes, kinds: Sequence[Kind], keys: int) -> None:
        self._kinds, self._keys = tuple(kinds), keys
        self._secret = secret
        self._begin = _words(secret, "begin", 2)
        self._tags = _words(secret, "tags", 2 * (_LONG + 1)).reshape(2, -1)
        self._factors = _words(secret, "factors", 4 * len(self._kinds)).reshape(-1, 2, 2) | np.uint64(1)
        self._texts = [_Remembered(self, kind) for kind in self._kinds]

    def rows(self, rows: Sequence[Row]) -> tuple[NDArray[np.intp], Lanes]:
        """The bucket of each row, by its key, and its hash: shapes (n,) and (2, n)."""
        state = np.empty((2, len(rows)), np.uint64)
        state[:] = self._begin[:, None]
        buckets = np.zeros(len(rows), np.intp)
        for place, column in enumerate(zip(*rows, strict=True)):
            cells = self._column(column, place)
            for lane in (0, 1):
                _mix(state[lane], cells[lane], *self._factors[place, lane])
            if place == self._keys - 1:
                buckets[:] = state[0] >> _BUCKET_SHIFT
        return buckets, state

    def _column(self, values: Sequence[Any], place: int) -> Lanes:
        """The lanes of a column's cells. By far the most columns hold what their kind expects, all of one type."""
        kind, types = self._kinds[place], set(map(type, values))
        if kind in _NUMBERS and type(None) in types and len(types) > 1:
            nulls = np.fromiter((value is None for value in values), np.bool_, len(values))
            filled = [0 if value is None else value for value in values]
            types.discard(type(None))
            numbers = self._numbers(filled, kind, types)
            if numbers is not None:
                numbers[:, nulls] = self._tags[:, NULL, None]
                return numbers
        elif kind in _NUMBERS:
            numbers = self._numbers(values, kind, types)
            if numbers is not None:
                return numbers
        return self._texts[place].lanes(values, set(map(type, values)))

    def _numbers(self, values: Sequence[Any], kind: Kind, types: set[type]) -> Lanes | None:
        """The lanes of numbers of the expected kind; None if there are others among these types, or too large ones."""
        if kind in (Kind.FLOAT, Kind.SINGLE):
            if types != {float}:
                return None
            bits = (np.array(values, np.float64) + 0.0).view(np.int64)
            return self._tagged(bits ^ (bits >> 63 & 0x7FFF_FFFF_FFFF_FFFF), DOUBLE)
        if not types <= {int, bool}:
            return None
        try:
            integers = np.array(values, np.int64)
        except OverflowError:
            return None
        if kind is Kind.BOOLEAN and integers.size and (integers.min() < 0 or integers.max() > 1):
            return None
        return self._tagged(integers, BOOLEAN if kind is Kind.BOOLEAN else INTEGER)

    def _tagged(self, payload: NDArray[np.int64], tag: int) -> Lanes:
        return payload.view(np.uint64)[None, :] ^ self._tags[:, tag, None]

    def of_cell(self, cell: Cell) -> tuple[int, int]:
        """The two lanes of a canonical cell."""
        tag, payload = cell
        if isinstance(payload, int):
            if payload in _INT64:
                return tuple(payload & _WORD ^ int(word) for word in self._tags[:, tag])  # type: ignore[return-value]
            tag, payload = _LONG, b"%d" % payload
        digest = blake2b(payload, digest_size=16, key=self._secret, person=b"%d" % tag).digest()
        return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


_NUMBERS: Final = (Kind.FLOAT, Kind.SINGLE, Kind.INTEGER, Kind.BOOLEAN)


class _Remembered(dict[Any, int]):
    """The lanes of a column's short texts, by their place in a table that grows; begun anew when it is full."""

    def __init__(self, hasher: Hasher, kind: Kind) -> None:
        super().__init__()
        self._hasher, self._kind = hasher, kind
        self._table = np.empty((2, 64), np.uint64)

    def __missing__(self, text: str | None) -> int:
        place = self[text] = len(self)
        if place == self._table.shape[1]:
            self._table = np.concatenate((self._table, np.empty_like(self._table)), axis=1)
        self._table[:, place] = self._hasher.of_cell(canonical(text, self._kind))
        return place

    def lanes(self, values: Sequence[Any], types: Iterable[type]) -> Lanes:
        """The lanes of these values, of whatever types."""
        if not set(types) <= {str, type(None)}:  # a dictionary holds 1, 1.0 and True for the same
            return self._one_by_one(values)
        if max((len(value) for value in values if value), default=0) > _REMEMBERED_CHARACTERS:
            return self._one_by_one(values)
        places = np.fromiter(map(self.__getitem__, values), np.intp, len(values))
        found = self._table[:, places]
        if len(self) > _REMEMBERED:
            self.clear()
        return found

    def _one_by_one(self, values: Sequence[Any]) -> Lanes:
        cells = [self._hasher.of_cell(canonical(value, self._kind)) for value in values]
        return np.ascontiguousarray(np.array(cells, np.uint64).reshape(-1, 2).T)


def _mix(state: Lanes, cells: Lanes, first: np.uint64, second: np.uint64) -> None:
    """One step of a lane's chain, in place: a bijection of the state for any cell, and of the cell for any state."""
    state += cells
    state ^= state >> _SHIFTS[0]
    state *= first
    state ^= state >> _SHIFTS[1]
    state *= second
    state ^= state >> _SHIFTS[2]


def _words(secret: bytes, what: str, number: int) -> Lanes:
    """Random words of 64 bits that follow from the secret."""
    drawn = b"".join(
        blake2b(b"%d" % n, digest_size=64, key=secret, person=what.encode()).digest() for n in range(number // 8 + 1)
    )
    return np.frombuffer(drawn, "<u8", number).astype(np.uint64)
