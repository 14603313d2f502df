"""TimescaleDB as a target: ``metrics`` is split by time before it is filled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import asyncpg

from bench.errors import BadInput
from bench.identity import DAY_MS
from bench.migrate.targets.base import first_line
from bench.migrate.targets.postgresql import PostgresqlTarget

_CHUNKS: Final = 200  # more of them cost more than they help: each has indexes of its own
_MADE: Final = "extension"


class TimescaledbTarget(PostgresqlTarget):
    """A PostgreSQL database with the extension, which is made if it is missing."""

    async def prepare(self) -> dict[str, str]:
        before = await super().prepare()
        if await self.session.fetch("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'"):
            return before
        try:
            await self.execute("CREATE EXTENSION timescaledb")
        except asyncpg.PostgresError as error:
            raise BadInput(
                f"{self.url}: TimescaleDB can't be had there: {first_line(error)}; have an administrator carry out "
                "CREATE EXTENSION timescaledb, or move to postgresql://"
            ) from error
        return {**before, _MADE: "absent"}

    async def undo(self, before: Mapping[str, str]) -> None:
        await super().undo(before)
        if before.get(_MADE) == "absent":
            await self.execute("DROP EXTENSION IF EXISTS timescaledb")

    async def shape(self, span_ms: tuple[int, int] | None) -> None:
        await self.session.fetch(
            f"SELECT create_hypertable('metrics', by_range('timestamp', {interval_ms(span_ms)}), migrate_data => true)"
        )

    async def hypertables(self) -> set[str]:
        rows = await self.session.fetch(
            "SELECT hypertable_name::text FROM timescaledb_information.hypertables "
            "WHERE hypertable_schema = current_schema()"
        )
        return {row[0] for row in rows}


def interval_ms(span_ms: tuple[int, int] | None) -> int:
    """How long a chunk is, in whole days: a day at least, and not more than 200 chunks in all."""
    if span_ms is None:
        return DAY_MS
    first, last = span_ms
    chunks = _CHUNKS - 1  # the first and the last are not full
    days = -(-(last - first + 1) // (chunks * DAY_MS))
    return max(1, days) * DAY_MS
