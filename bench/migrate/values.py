"""Makes a source's raw values what a target's driver wants, without changing what they are."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any, Final

from bench.migrate.catalog import Column, Kind
from bench.stores.base import Row

_POSTGRESQL: Final = ("postgresql", "timescaledb")
Convert = Callable[[Sequence[Row]], Sequence[Row]]


def conversion(columns: Sequence[Column], target: str) -> Convert:
    """What turns rows, read from whatever store, into rows for a store of kind ``target``; the same if nothing must be.

    One generated expression a row: a call for each value would cost more than all else of a copy.
    """
    ways = [_way(column.kind, target) for column in columns]
    if all(way is None for way in ways):
        return lambda rows: rows
    names: dict[str, Any] = {f"f{place}": way for place, way in enumerate(ways) if way is not None}
    fields = "".join(
        f"r[{place}], "
        if way is None
        else f"f{place}[r[{place}]], "
        if isinstance(way, dict)
        else f"f{place}(r[{place}]), "
        for place, way in enumerate(ways)
    )
    made: Convert = eval(f"lambda rows: [({fields}) for r in rows]", names)
    return made


def converted(value: Any, kind: Kind, target: str) -> Any:
    """One value."""
    way = _way(kind, target)
    if way is None:
        return value
    return way[value] if isinstance(way, dict) else way(value)


def _way(kind: Kind, target: str) -> dict[Any, Any] | Callable[[Any], Any] | None:
    """A table to look values up in (booleans: 0, 1 and False, True are the same there), a function, or nothing."""
    if kind is Kind.BOOLEAN:
        return {None: None, 0: False, 1: True} if target in _POSTGRESQL else {None: None, 0: 0, 1: 1}
    if kind is Kind.DATE:
        return as_date if target in _POSTGRESQL else as_iso
    if kind is Kind.JSON:
        return as_json
    if kind is Kind.BYTES:
        return as_bytes
    return None


def as_date(value: Any) -> date | None:
    """A date from its ISO text, or itself."""
    return date.fromisoformat(value) if isinstance(value, str) else value


def as_iso(value: Any) -> str | None:
    """A date's ISO text."""
    return value.isoformat() if isinstance(value, date) else value


def as_json(value: Any) -> str | None:
    """JSON's text. SQLite makes numbers of texts in such a column that look like numbers."""
    return value if value is None or isinstance(value, str) else json.dumps(value)


def as_bytes(value: Any) -> bytes | None:
    """Bytes, of whatever the driver gave."""
    return None if value is None else bytes(value)
