"""PostgreSQL's backup: pg_dump of the very moment that a session of ours is frozen at, then pg_restore."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bench.readiness import tools
from bench.readiness.backup import Backup, Moment, NotPossible, new_database
from bench.readiness.scene import Scene
from bench.servers import Kind, RunningServer
from bench.stores import store_for
from bench.stores.url import StoreUrl

_GET = (
    "install a pg_dump of the server's version or newer: trackbench servers install postgresql, or postgresql-client-{}"
)
_TIMESCALEDB = "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'"


class PostgresqlBackup(Backup):
    """pg_dump in the custom format, as its manual advises."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self.kind: Kind = "timescaledb" if scene.url.store == "timescaledb" else "postgresql"
        self._extension: str | None = None

    async def prepare(self) -> None:
        session = self.scene.session
        server = int((await session.fetch("SHOW server_version_num"))[0][0]) // 10_000
        if rows := await session.fetch(_TIMESCALEDB):
            self._extension, self.kind = str(rows[0][0]), "timescaledb"
        dump, restore = tools.find("pg_dump"), tools.find("pg_restore")
        if dump is None or restore is None:
            raise NotPossible("pg_dump is missing here", _GET.format(server))
        ours = tools.version_of(dump)
        if ours and ours[0] < server:
            raise NotPossible(f"the server is PostgreSQL {server}, pg_dump here is {ours[0]}", _GET.format(server))
        self._dump, self._restore = dump, restore

    @asynccontextmanager
    async def moment(self) -> AsyncIterator[Moment]:
        session = await store_for(self.scene.url).connect()
        try:
            await session.freeze()
            rows = await session.fetch("SELECT pg_export_snapshot()")
            yield Moment(session, {"snapshot": str(rows[0][0])})
        finally:
            await session.close()

    async def dump(self, moment: Moment, folder: Path) -> Path:
        file = folder / "mlflow.dump"
        argv: list[str | Path] = [
            self._dump,
            "--format=custom",
            f"--snapshot={moment.options['snapshot']}",
            f"--file={file}",
            "--no-password",
        ]
        await tools.run(argv, _environment(self.scene.url))
        return file

    async def restore(self, file: Path, server: RunningServer | None) -> StoreUrl:
        assert server is not None
        url = await new_database(server)
        if self._extension is not None:
            await self._ready_for_chunks(url)
        argv: list[str | Path] = [self._restore, "--no-owner", "--no-privileges", "--exit-on-error", "--no-password"]
        await tools.run([*argv, f"--dbname={url.database}", file], _environment(url))
        session = await store_for(url).connect()
        try:
            if self._extension is not None:
                await session.fetch("SELECT timescaledb_post_restore()")
            await session.execute("ANALYZE")
        finally:
            await session.close()
        return url

    async def _ready_for_chunks(self, url: StoreUrl) -> None:
        """As TimescaleDB's manual has it: its own version, and its triggers at rest."""
        session = await store_for(url).connect()
        try:
            have = str((await session.fetch(_TIMESCALEDB))[0][0])
            if have != self._extension:
                raise NotPossible(
                    f"the server's TimescaleDB is {self._extension}, a scratch server has {have}",
                    "restore it into a TimescaleDB of its own version, and compare with `trackbench verify`",
                )
            await session.fetch("SELECT timescaledb_pre_restore()")
        finally:
            await session.close()


def _environment(url: StoreUrl) -> dict[str, str]:
    """The connection as libpq takes it from the environment, the password with it."""
    options = dict(url.options)
    given = {
        "PGHOST": url.host,
        "PGPORT": str(url.port),
        "PGUSER": url.user,
        "PGPASSWORD": url.password,
        "PGDATABASE": url.database,
        "PGSSLMODE": options.get("sslmode", ""),
        "PGSSLROOTCERT": options.get("sslrootcert", ""),
        "PGCONNECT_TIMEOUT": "20",
        "PGAPPNAME": "trackbench backup",
    }
    return {name: value for name, value in given.items() if value}
