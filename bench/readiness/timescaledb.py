"""What a TimescaleDB database is asked beside what PostgreSQL is: its licence, and the chunks of ``metrics``."""

from __future__ import annotations

from dataclasses import replace

from bench.readiness.check import Check, Outcome
from bench.readiness.growth import DAY_MS, Size
from bench.readiness.postgresql import Postgresql
from bench.readiness.scene import Question

_MANY, _TOO_MANY = 500, 5_000  # chunks: each is a table that planning, locks and upgrades go through
_SMALL = 5_000  # rows: a chunk of fewer costs more than it saves
_CHUNKS = """
SELECT (SELECT integer_interval FROM timescaledb_information.dimensions
        WHERE hypertable_schema = current_schema() AND hypertable_name = 'metrics' AND dimension_number = 1) AS every,
    (SELECT count(*) FROM timescaledb_information.chunks
        WHERE hypertable_schema = current_schema() AND hypertable_name = 'metrics') AS chunks,
    current_setting('timescaledb.license', true) AS licence
"""
_SIZE = "SELECT hypertable_size('metrics'), approximate_row_count('metrics')"
_LIVE = """
SELECT coalesce(sum(s.n_live_tup), 0)::bigint FROM timescaledb_information.chunks c
JOIN pg_stat_all_tables s ON s.schemaname = c.chunk_schema AND s.relname = c.chunk_name
WHERE c.hypertable_schema = current_schema() AND c.hypertable_name = 'metrics'
"""


class Timescaledb(Postgresql):
    """PostgreSQL's questions, and two of its own."""

    async def collect(self) -> None:
        await super().collect()
        row = (await self.scene.session.fetch(_CHUNKS))[0]
        self.every, self.number, self.licence = row[0], int(row[1]), str(row[2] or "")

    def questions(self) -> list[Question]:
        return [
            *super().questions(),
            Question("licence", "TimescaleDB's licence", self.licences),
            Question("chunks", "Chunks of metrics", self.chunks),
        ]

    async def table_sizes(self) -> list[Size]:
        plain = await super().table_sizes()
        size, rows = (await self.scene.session.fetch(_SIZE))[0]
        live = (await self.scene.session.fetch(_LIVE))[0][0]
        return [
            replace(one, rows=max(int(rows or 0), int(live)), octets=int(size or 0)) if one.table == "metrics" else one
            for one in plain
        ]

    async def licences(self) -> list[Check]:
        """Both will do: MLflow needs nothing that the Apache build lacks."""
        title = "TimescaleDB's licence"
        if self.licence == "apache":
            found = "apache: hypertables, but no compression, retention policies or continuous aggregates"
            return [Check(name="licence", title=title, outcome="pass", found=found)]
        if not self.licence:
            found, remedy = "the server does not tell it", "SHOW timescaledb.license (as superuser)"
            return [Check(name="licence", title=title, outcome="unknown", found=found, remedy=remedy)]
        found = f"{self.licence}: all functions; it forbids selling the database itself as a service"
        return [Check(name="licence", title=title, outcome="pass", found=found)]

    async def chunks(self) -> list[Check]:
        """Few enough, and not next to empty: the column holds milliseconds, which people take for seconds."""
        title = "Chunks of metrics"
        if self.every is None:
            found = "metrics is no hypertable cut by an integer: it is a plain table, or cut in another way"
            remedy = "see `trackbench run` with --store timescaledb, which makes one"
            return [Check(name="chunks", title=title, outcome="warn", found=found, remedy=remedy)]
        rows = next((one.rows for one in await self.table_sizes() if one.table == "metrics"), 0)
        each = rows / self.number if self.number else 0.0
        outcome: Outcome = "pass"
        if self.number > _MANY or self.every < DAY_MS // 24:
            outcome = "fail" if self.number > _TOO_MANY or (self.number > 100 and each < _SMALL) else "warn"
        elif self.number > 100 and each < _SMALL:
            outcome = "warn"
        found = f"{self.number} chunks of {self.every / DAY_MS:.3g} days, about {each:,.0f} rows each"
        remedy = ""
        if outcome != "pass":
            remedy = (
                f"SELECT set_chunk_time_interval('metrics', {30 * DAY_MS}::bigint) (30 days in milliseconds) for what "
                "comes; for what is there copy the store into a fresh one with `trackbench migrate`"
            )
        return [Check(name="chunks", title=title, outcome=outcome, found=found, remedy=remedy)]
