"""Rows of a large result as they come from a MySQL server: what aiomysql's unbuffered cursor does, a batch at a time.

That cursor awaits twice a row and converts value by value, 5 times the work. Here whatever has arrived is cut into
values in one loop, and each column is converted at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from typing import Any, Final

import aiomysql
import pymysql.err
from aiomysql.connection import MysqlPacket
from pymysql.constants import CR

_READ_BYTES: Final = 2**18
_BATCH_BYTES: Final = 2**23  # of a batch: fewer rows than asked for where they are large
_HEAD: Final = 4  # length (3 bytes) and number of a packet
_FULL: Final = 0xFFFFFF  # the length of a packet that another one continues
_END, _ERROR, _NULL = 0xFE, 0xFF, 0xFB
_END_BYTES: Final = 9  # a shorter packet that begins with _END ends the result
_LENGTHS: Final = {0xFC: 2, 0xFD: 3, 0xFE: 8}  # bytes of a length that does not fit into one

Values = list[bytes | None]


async def rows_of(connection: aiomysql.Connection, statement: str, size: int) -> AsyncGenerator[Sequence[Any]]:
    """Batches of at most ``size`` rows, as tuples of the driver's values.

    Raises:
        pymysql.err.MySQLError: as the driver does.
    """
    await connection.query(statement, unbuffered=True)
    result = connection._result
    if not result.unbuffered_active:
        return  # a statement without rows
    packets = _Packets(connection, len(result.converters))
    try:
        while not packets.ended:
            await packets.more(size)
            if packets.values:
                yield _converted(packets.take(), result.converters)
    except asyncio.CancelledError:
        connection.close()
        raise
    finally:
        while not (packets.ended or connection.closed):  # nothing else can be asked before the rest is gone
            await packets.more(size)
            packets.take()
        result.unbuffered_active, result.connection = False, None


class _Packets:
    """What came of a result, cut into values: row after row, ``width`` values each."""

    def __init__(self, connection: aiomysql.Connection, width: int) -> None:
        self.values: Values = []
        self.ended = False
        self._connection, self._width = connection, width
        self._data, self._place = b"", 0
        self._bytes = 0

    def take(self) -> Values:
        """The values since the last call."""
        taken, self.values, self._bytes = self.values, [], 0
        return taken

    async def more(self, size: int) -> None:
        """Read until there are ``size`` rows, many bytes, or no more."""
        most = size * self._width
        while not (self.ended or self._cut(most) or (self.values and self._bytes > _BATCH_BYTES)):
            parts, missing = [self._data[self._place :]], _missing(self._data, self._place)
            while missing > 0:
                parts.append(await self._read())
                missing -= len(parts[-1])
            self._data, self._place = b"".join(parts), 0
            self._bytes += len(self._data)

    async def _read(self) -> bytes:
        try:
            arrived: bytes = await self._connection._reader.read(_READ_BYTES)
        except OSError as error:
            self._connection.close()
            raise pymysql.err.OperationalError(CR.CR_SERVER_LOST, f"Lost connection during query ({error})") from error
        if not arrived:
            self._connection.close()
            raise pymysql.err.OperationalError(CR.CR_SERVER_LOST, "Lost connection to MySQL server during query")
        return arrived

    def _cut(self, most: int) -> bool:
        """Cut what has arrived whole; whether that is all that is wanted now."""
        data, place, values = self._data, self._place, self.values
        append, end = values.append, len(data)
        while len(values) < most:
            begin = place + _HEAD
            if begin > end:
                break
            stop = begin + (data[place] | data[place + 1] << 8 | data[place + 2] << 16)
            if stop - begin == _FULL:
                whole = _whole(data, place)
                if whole is None:
                    break
                body, place = whole
                self._row(body, 0, len(body))
                continue
            if stop > end:
                break
            place = stop
            first = data[begin]
            if first == _ERROR or (first == _END and stop - begin < _END_BYTES):
                self._end(data[begin:stop])
                break
            while begin < stop:  # the same as `_row`, which is not called for each row because of its price
                length = data[begin]
                begin += 1
                if length < _NULL:
                    append(data[begin : begin + length])
                    begin += length
                elif length == _NULL:
                    append(None)
                else:
                    wide = begin + _LENGTHS[length]
                    begin = wide + int.from_bytes(data[wide - _LENGTHS[length] : wide], "little")
                    append(data[wide:begin])
        self._place = place
        return self.ended or len(values) >= most

    def _row(self, data: bytes, begin: int, stop: int) -> None:
        while begin < stop:
            length = data[begin]
            begin += 1
            if length < _NULL:
                self.values.append(data[begin : begin + length])
                begin += length
            elif length == _NULL:
                self.values.append(None)
            else:
                wide = begin + _LENGTHS[length]
                begin = wide + int.from_bytes(data[wide - _LENGTHS[length] : wide], "little")
                self.values.append(data[wide:begin])

    def _end(self, body: bytes) -> None:
        self.ended = True
        if body[0] == _ERROR:
            MysqlPacket(body, self._connection.encoding).raise_for_error()


def _missing(data: bytes, place: int) -> int:
    """How many bytes at least have not arrived of a row that begins at ``place``, in one packet or several."""
    while True:
        if place + _HEAD > len(data):
            return place + _HEAD - len(data)
        length = int.from_bytes(data[place : place + 3], "little")
        place += _HEAD + length
        if place > len(data) or length < _FULL:
            return max(1, place - len(data))


def _whole(data: bytes, place: int) -> tuple[bytes, int] | None:
    """A row in several packets, and where the next begins; None if it has not all arrived."""
    parts = []
    while True:
        begin = place + _HEAD
        if begin > len(data):
            return None
        length = int.from_bytes(data[place : place + 3], "little")
        place = begin + length
        if place > len(data):
            return None
        parts.append(data[begin:place])
        if length < _FULL:
            return b"".join(parts), place


def _converted(values: Values, converters: Sequence[tuple[str | None, Callable[[Any], Any] | None]]) -> list[Any]:
    width = len(converters)
    return list(zip(*(_column(values[n::width], *converters[n]) for n in range(width)), strict=True))


def _column(values: Values, encoding: str | None, convert: Callable[[Any], Any] | None) -> list[Any]:
    """A column's values as the driver converts them: decoded, then converted."""
    if encoding is None and convert is None:
        return list(values)
    one: Any
    if convert is int or convert is float:  # which read bytes as well
        one = convert
    elif convert is None:
        one = bytes.decode if encoding in ("utf8", "ascii") else partial(str, encoding=encoding)
    else:
        one = convert if encoding is None else lambda value: convert(value.decode(encoding))
    if None in values:
        return [None if value is None else one(value) for value in values]
    return list(map(one, values))
