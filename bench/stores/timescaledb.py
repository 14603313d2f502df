"""TimescaleDB: PostgreSQL whose ``metrics`` table is a hypertable over its timestamp."""

from bench.identity import DAY_MS
from bench.stores.base import Session
from bench.stores.postgresql import PostgresqlStore


class TimescaledbStore(PostgresqlStore):
    """A PostgreSQL database with the TimescaleDB extension."""

    name = "timescaledb"

    async def version(self, session: Session) -> str:
        rows = await session.fetch("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")
        extension = f"TimescaleDB {rows[0][0]}" if rows else "without the TimescaleDB extension"
        return f"{await super().version(session)}, {extension}"

    async def after_schema(self, session: Session) -> None:
        """Make ``metrics`` a hypertable with a chunk a day; latest_metrics can't be one (no time in its key)."""
        await session.fetch(
            f"SELECT create_hypertable('metrics', by_range('timestamp', {DAY_MS}), migrate_data => true)"
        )

    async def misfit(self, session: Session, empty: bool) -> str | None:
        if empty:  # the extension alone is added, if it may be: without it there is no point in a schema
            await session.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
            return None
        rows = await session.fetch("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'")
        if rows:
            rows = await session.fetch(
                "SELECT 1 FROM timescaledb_information.hypertables "
                "WHERE hypertable_schema = current_schema() AND hypertable_name = 'metrics'"
            )
        return None if rows else "metrics is not a hypertable; give it as --store postgresql=…, or make it one"
