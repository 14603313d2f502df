"""How far a migration has come: one row in a table of ours in the target, until the proof has passed.

It is written in the same transactions as the rows it tells of. MySQL commits a table at once, so the row may be missing
where the table is there: then nothing else was done.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import date
from enum import IntEnum
from importlib.metadata import version
from typing import Any, Final

from bench.errors import BadInput
from bench.migrate.catalog import OURS
from bench.migrate.targets.base import Deferred, Target, drivers

_LONG: Final = {"mysql": "LONGTEXT", "mariadb": "LONGTEXT"}


class Phase(IntEnum):
    """How far it is; until LOADING the target has nothing worth keeping."""

    BEGUN = 0
    SCHEMA = 1  # MLflow's migrations are at work
    LOADING = 2  # indexes and constraints are not there
    FINISHED = 3  # all is there; what the source gained since is brought by further passes, then proved


@dataclass
class Mark:
    """How far one table is: all of it, or the rows up to a key in the source's order (None: no such order)."""

    done: bool = False
    last: list[Any] | None = None


@dataclass
class Progress:
    """The row."""

    source: str  # as the user gave it, without password
    phase: Phase = Phase.BEGUN
    revision: str | None = None
    before: dict[str, str] = field(default_factory=dict)  # what was changed in the target's settings
    deferred: list[Deferred] = field(default_factory=list)
    marks: dict[str, Mark] = field(default_factory=dict)
    version: str = field(default_factory=lambda: version("trackbench"))

    async def create(self, target: Target) -> None:
        """Make the table and the row."""
        kind = _LONG.get(target.url.store, "TEXT")
        await target.begin()
        await target.execute(
            f"CREATE TABLE {OURS} (id INTEGER NOT NULL PRIMARY KEY, source {kind} NOT NULL, "
            f"phase VARCHAR(20) NOT NULL, details {kind} NOT NULL)"
        )
        render = target.store.dialect.render
        await target.session.execute(
            render(f"INSERT INTO {OURS} (id, source, phase, details) VALUES (?, ?, ?, ?)"),
            1, self.source, self.phase.name.lower(), self._details(),
        )  # fmt: skip
        await target.session.commit()

    async def save(self, target: Target) -> None:
        """Write the row in the transaction that is open."""
        render = target.store.dialect.render
        await target.session.execute(
            render(f"UPDATE {OURS} SET phase = ?, details = ? WHERE id = ?"),
            self.phase.name.lower(), self._details(), 1,
        )  # fmt: skip

    async def reach(self, target: Target, phase: Phase) -> None:
        """A new phase, in a transaction of its own."""
        self.phase = phase
        await target.begin()
        await self.save(target)
        await target.session.commit()

    def _details(self) -> str:
        return json.dumps(
            {
                "version": self.version,
                "revision": self.revision,
                "before": self.before,
                "deferred": [one.as_json() for one in self.deferred],
                "marks": {
                    name: [mark.done, None if mark.last is None else [_written(value) for value in mark.last]]
                    for name, mark in self.marks.items()
                },
            }
        )


async def read(target: Target) -> Progress | None:
    """The row; None if the table has none yet.

    Raises:
        BadInput: another version of Trackbench wrote it, or it is not ours.
    """
    try:
        rows = await target.session.fetch(f"SELECT source, phase, details FROM {OURS}")
        await target.session.rollback()
        if not rows:
            return None
        found = json.loads(rows[0][2])
        progress = Progress(
            str(rows[0][0]),
            Phase[str(rows[0][1]).upper()],
            found["revision"],
            found["before"],
            [Deferred(**one) for one in found["deferred"]],
            {name: Mark(done, None if last is None else [_read(one) for one in last])
             for name, (done, last) in found["marks"].items()},
            found["version"],
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{target.url}: the table {OURS} can't be read; begin anew with --start-over") from error
    except Exception as error:
        if not drivers(error):
            raise
        raise BadInput(f"{target.url}: the table {OURS} is not ours or is damaged; empty the database") from error
    if progress.version != version("trackbench"):
        raise BadInput(
            f"{target.url}: Trackbench {progress.version} began this migration; go on with that version, or begin anew "
            "with --start-over"
        )
    return progress


async def begin_anew(target: Target) -> None:
    """Have the row say that nothing is worth keeping: what is going to be dropped may be dropped in part only."""
    if OURS in await target.tables():
        await target.begin()
        await target.execute(f"UPDATE {OURS} SET phase = '{Phase.BEGUN.name.lower()}'")
        await target.session.commit()


async def remove(target: Target) -> None:
    """Drop the table: the target is a store like any other now."""
    await target.begin()
    await target.execute(f"DROP TABLE {OURS}")
    await target.session.commit()


def _written(value: Any) -> Any:
    """A key's value for JSON, which has neither bytes nor dates; doubles are exact in it."""
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    return {"date": value.isoformat()} if isinstance(value, date) else value


def _read(value: Any) -> Any:
    if isinstance(value, dict):
        return bytes.fromhex(value["bytes"]) if "bytes" in value else date.fromisoformat(value["date"])
    return value
