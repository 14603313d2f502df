"""MySQL's backup: mysqldump in one transaction, read back by mysql; MariaDB's with its own tools of other names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

from bench.readiness import tools
from bench.readiness.backup import Backup, Moment, NotPossible, new_database
from bench.servers import Kind, RunningServer
from bench.stores import store_for
from bench.stores.base import Session
from bench.stores.url import StoreUrl

_WRITES = ("Innodb_rows_inserted", "Innodb_rows_updated", "Innodb_rows_deleted")
_OPTIONS = ("--single-transaction", "--quick", "--hex-blob", "--no-tablespaces", "--default-character-set=utf8mb4")


class MysqlBackup(Backup):
    """mysqldump, whose transaction begins a moment after ours: what is written between them is told, not judged."""

    kind: Kind = "mysql"
    names: ClassVar[tuple[tuple[str, ...], tuple[str, ...]]] = (("mysqldump",), ("mysql",))
    package: ClassVar[str] = "trackbench servers install mysql, or mysql-client"
    more: ClassVar[tuple[str, ...]] = ("--set-gtid-purged=OFF",)

    async def prepare(self) -> None:
        dump, client = (tools.find(*names) for names in self.names)
        if dump is None or client is None:
            raise NotPossible(f"{self.names[0][0]} is missing here", f"install it: {self.package}")
        rows = await self.scene.session.fetch("SELECT VERSION(), @@character_set_database, @@collation_database")
        server = tuple(int(part) for part in str(rows[0][0]).split("-")[0].split(".")[:2])
        if (ours := tools.version_of(dump)) and ours[:2] < server:
            shown = ".".join(map(str, ours[:2]))
            why = f"the server is {self.kind} {rows[0][0]}, {dump.name} here is {shown}"
            raise NotPossible(why, f"install one of the server's version or newer: {self.package}")
        self._dump, self._client, self._charset, self._collation = dump, client, str(rows[0][1]), str(rows[0][2])

    @asynccontextmanager
    async def moment(self) -> AsyncIterator[Moment]:
        session = await store_for(self.scene.url).connect()
        try:
            before = await _writes(session)
            await session.freeze()
            yield Moment(session, {"writes": before})
        finally:
            await session.close()

    async def dump(self, moment: Moment, folder: Path) -> Path:
        file = folder / "mlflow.sql"
        options = _option_file(self.scene.url, folder / "source.cnf")
        argv: list[str | Path] = [
            self._dump,
            f"--defaults-file={options}",
            *_OPTIONS,
            *self.more,
            self.scene.url.database,
        ]
        await tools.run(argv, {}, writes=file)
        moment.options["writes_after"] = await _writes(self.scene.session)
        return file

    async def restore(self, file: Path, server: RunningServer | None) -> StoreUrl:
        assert server is not None
        url = await new_database(server)
        session = await store_for(url).connect()
        try:
            await session.execute(f"ALTER DATABASE CHARACTER SET {self._charset} COLLATE {self._collation}")
        finally:
            await session.close()
        options = _option_file(url, file.with_name("target.cnf"))
        await tools.run([self._client, f"--defaults-file={options}", url.database], {}, reads=file)
        return url

    async def written(self, moment: Moment) -> bool:
        return moment.options["writes"] != moment.options["writes_after"]


class MariadbBackup(MysqlBackup):
    """The same by MariaDB's names; mysqldump of MySQL does not know all that it would have to."""

    kind: Kind = "mariadb"
    names = (("mariadb-dump",), ("mariadb",))
    package = "the package mariadb-client"
    more = ()


async def _writes(session: Session) -> str:
    """The server's counters of written rows, which anybody may read."""
    names = ", ".join(f"'{name}'" for name in _WRITES)
    rows = await session.fetch(f"SHOW GLOBAL STATUS WHERE Variable_name IN ({names})")
    return ",".join(f"{row[0]}={row[1]}" for row in sorted(rows, key=lambda row: str(row[0])))


def _option_file(url: StoreUrl, file: Path) -> Path:
    """The connection in a file that only we can read, so that no process list shows the password."""
    quoted = url.password.replace("\\", "\\\\").replace('"', '\\"')
    lines = [
        "[client]",
        f"host={url.host}",
        f"port={url.port}",
        f"user={url.user}",
        f'password="{quoted}"',
        "protocol=tcp",
    ]
    if url.authority is not None:
        lines += [f"ssl-ca={url.authority}"]
        lines += ["ssl-verify-server-cert"] if url.store == "mariadb" else ["ssl-mode=VERIFY_IDENTITY"]
    file.touch(0o600)
    file.write_text("\n".join(lines) + "\n")
    return file
