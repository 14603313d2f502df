"""What a PostgreSQL database is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal

from bench.readiness import access, growth, limits, password, safety, tls, upkeep
from bench.readiness.backup import Backup
from bench.readiness.backup_postgresql import PostgresqlBackup
from bench.readiness.check import Check
from bench.readiness.database import Database
from bench.readiness.greeting import Greeting, Unanswered, greet
from bench.readiness.growth import Disk, Pace, Size
from bench.readiness.places_here import disk_of
from bench.readiness.scene import Question, listed

_MONITOR = "GRANT pg_monitor TO {}"
_HBA = "GRANT SELECT ON pg_hba_file_rules TO {0}; GRANT EXECUTE ON FUNCTION pg_hba_file_rules() TO {0} (as superuser)"
_SETTINGS = (
    "max_connections", "superuser_reserved_connections", "reserved_connections", "listen_addresses", "ssl",
    "password_encryption", "idle_in_transaction_session_timeout", "lock_timeout", "statement_timeout", "autovacuum",
    "track_counts", "autovacuum_freeze_max_age", "archive_mode", "wal_level", "data_directory", "port",
)  # fmt: skip
_LOGIN = """
SELECT r.rolname, r.rolsuper, r.rolcreaterole, r.rolcreatedb, r.rolreplication, r.rolbypassrls, r.rolconnlimit,
    d.datname, d.datconnlimit, age(d.datfrozenxid) AS age, pg_encoding_to_char(d.encoding) AS encoding,
    pg_database_size(d.oid) AS size, s.ssl, s.version AS tls_version,
    has_schema_privilege(current_schema(), 'CREATE') AS may_create,
    (SELECT count(*) FROM pg_stat_activity WHERE usename IS NOT NULL AND datid IS NOT NULL) AS sessions,
    (SELECT count(*) FROM pg_stat_activity WHERE usename = current_user AND datname = d.datname) AS own_sessions
FROM pg_roles r, pg_database d, pg_stat_ssl s
WHERE r.rolname = current_user AND d.datname = current_database() AND s.pid = pg_backend_pid()
"""
_POWERS = {
    "rolsuper": "SUPERUSER",
    "rolcreaterole": "CREATEROLE",
    "rolcreatedb": "CREATEDB",
    "rolreplication": "REPLICATION",
    "rolbypassrls": "BYPASSRLS",
}
_TABLES = """
SELECT c.relname, c.relpersistence = 'u' AS unlogged, greatest(c.reltuples, 0)::bigint AS rows,
    pg_total_relation_size(c.oid) AS size, pg_has_role(c.relowner, 'USAGE') AS owned,
    coalesce(s.n_live_tup, 0) AS live, coalesce(s.n_dead_tup, 0) AS dead,
    coalesce(s.last_analyze, s.last_autoanalyze) IS NOT NULL AS analysed
FROM pg_class c LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') ORDER BY c.relname
"""
_RULES = (
    "SELECT line_number, type, database, user_name, coalesce(address, ''), coalesce(netmask, ''), "
    "coalesce(auth_method, ''), coalesce(error, '') FROM pg_hba_file_rules ORDER BY line_number"
)


class Postgresql(Database):
    """PostgreSQL's questions; `collect` asks the three statements that most of them share."""

    change_password: ClassVar[str] = "ALTER ROLE {} PASSWORD '…'"

    async def collect(self) -> None:
        fetch = self.scene.session.fetch
        rows = await fetch("SELECT name, setting FROM pg_settings WHERE name = ANY($1::text[])", list(_SETTINGS))
        self.settings: dict[str, str] = {row[0]: row[1] for row in rows}
        self.login: Any = (await fetch(_LOGIN))[0]
        self.tables: Sequence[Any] = await fetch(_TABLES)
        ways = (False, True)
        said = await asyncio.gather(*(self._greeting(encrypted) for encrypted in ways))
        self.greetings: dict[bool, Greeting] = dict(zip(ways, said, strict=True))

    def questions(self) -> list[Question]:
        user = self.quoted
        return [
            Question("password", "Password of MLflow's login", self.password),
            Question("tls", "TLS", self.tls),
            Question("access", "Who may connect from where", self.access, _HBA.format(user)),
            Question("role", "Rights of MLflow's login", self.role),
            Question("connections", "Connection limit", self.connections),
            Question("durability", "Acknowledged writes survive", self.durability),
            Question("sizes", "Table sizes and growth", self.sizes),
            Question("upkeep", "Statistics and dead rows", self.upkeep, _MONITOR.format(user)),
            Question("timeouts", "Time limits", self.timeouts),
            Question("point_in_time", "Recovery to a point in time", self.point_in_time, _MONITOR.format(user)),
            Question("encoding", "Character set", self.encoding),
        ]

    @property
    def quoted(self) -> str:
        """The login as an identifier."""
        name = self.scene.url.user or "current_user"
        return '"' + name.replace('"', '""') + '"' if not name.isidentifier() or name.lower() != name else name

    @cached_property
    def private(self) -> bool | None:
        """Whether the server listens on its machine's loopback only."""
        listens = self.settings.get("listen_addresses")
        if listens is None:
            return None
        return all(name.strip() in ("localhost", "127.0.0.1", "::1", "") for name in listens.split(","))

    async def _greeting(self, encrypted: bool) -> Greeting:
        url = self.scene.url
        try:
            return await greet(url.host, url.port, url.user, url.database, encrypted=encrypted)
        except (Unanswered, OSError):  # TimeoutError is one
            return "other"

    async def password(self) -> list[Check]:
        url = self.scene.url
        greeting = self.greetings[bool(self.login["ssl"])]
        asked = {"trust": False, "other": None}.get(greeting, True)
        change = self.change_password.format(self.quoted)
        return [password.check(url.user, url.password, url.database, change, asked=asked)]

    async def tls(self) -> list[Check]:
        plain: dict[Greeting, Literal["refused", "admitted", "unknown"]] = {"refused": "refused", "other": "unknown"}
        wire = tls.Wire(
            encrypted=bool(self.login["ssl"]),
            protocol=str(self.login["tls_version"] or ""),
            verified=self.scene.url.verified,
            unencrypted=plain.get(self.greetings[False], "admitted"),
            local=self.scene.local,
            private=self.private,
            verify="?sslmode=verify-full&sslrootcert=/path/to/ca.pem",
            demand="in pg_hba.conf write hostssl in place of host for this database, then SELECT pg_reload_conf()",
        )
        return tls.checks(wire)

    async def access(self) -> list[Check]:
        rows = await self.scene.session.fetch(_RULES)
        rules = [
            access.HbaRule(
                row[0] or 0, row[1] or "", tuple(row[2] or ()), tuple(row[3] or ()), row[4], row[5], row[6], row[7]
            )
            for row in rows
        ]
        return [access.hba(rules, self.login["datname"], self.private)]

    async def role(self) -> list[Check]:
        powers = [word for column, word in _POWERS.items() if self.login[column]]
        lacks = [] if self.login["may_create"] else ["CREATE on the schema"]
        foreign = [row["relname"] for row in self.tables if not row["owned"]]
        if foreign:
            lacks.append(f"ownership of {len(foreign)} tables ({listed(foreign, 3)})")
        none = " ".join(f"NO{word}" for word in powers)
        remedy = f"give MLflow a login of its own that owns the database: ALTER ROLE {self.quoted} {none}"
        give = f"GRANT CREATE ON SCHEMA public TO {self.quoted}; ALTER TABLE … OWNER TO {self.quoted}"
        return [access.role(self.login["rolname"], powers, lacks, remedy, give)]

    async def connections(self) -> list[Check]:
        number = {name: int(self.settings.get(name, 0)) for name in _SETTINGS[:3]}
        reserved = number["superuser_reserved_connections"] + number["reserved_connections"]
        ways = [
            (number["max_connections"] - reserved, f"max_connections {number['max_connections']} - {reserved} reserved")
        ]
        change = "ALTER SYSTEM SET max_connections = {} and restart"
        ways += [(self.login["datconnlimit"], "the database's CONNECTION LIMIT")] * (self.login["datconnlimit"] >= 0)
        ways += [(self.login["rolconnlimit"], "the login's CONNECTION LIMIT")] * (self.login["rolconnlimit"] >= 0)
        most, set_by = min(ways)
        if set_by != ways[0][1]:
            what = f"ROLE {self.quoted}" if "login" in set_by else f"DATABASE {self.scene.url.database}"
            change = f"ALTER {what} CONNECTION LIMIT {{}}"
        ours = int(self.login["own_sessions"]) - 1  # this one goes again
        others = int(self.login["sessions"]) - 1 - ours
        server = self.scene.server.on([row["relname"] for row in self.tables])
        return [limits.check(limits.Limits(most, set_by, others if most == ways[0][0] else 0, ours, change), server)]

    async def durability(self) -> list[Check]:
        store, session = self.scene.store, self.scene.session
        promised = store.durability(await store.settings(session))
        remedy = "ALTER SYSTEM RESET fsync, full_page_writes and synchronous_commit (each), SELECT pg_reload_conf()"
        unlogged = [row["relname"] for row in self.tables if row["unlogged"]]
        mend = f"ALTER TABLE {unlogged[0]} SET LOGGED (each)" if unlogged else ""
        return [safety.durability(promised, remedy), safety.kept(unlogged, "unlogged", "a crash empties them", mend)]

    async def whole(self) -> int:
        return int(self.login["size"])

    def backup(self) -> Backup:
        return PostgresqlBackup(self.scene)

    async def table_sizes(self) -> list[Size]:
        return [Size(row["relname"], int(max(row["rows"], row["live"])), int(row["size"])) for row in self.tables]

    async def disk(self) -> Disk | None:
        folder, port = self.settings.get("data_directory"), self.settings.get("port", "")
        return disk_of(folder, "postmaster.pid", port) if self.scene.local and folder else None

    async def sizes(self) -> list[Check]:
        tables, whole, disk = await self.table_sizes(), await self.whole(), await self.disk()
        checks = [growth.sizes(tables, whole), growth.disk_space(disk, whole, elsewhere=not self.scene.local)]
        if any(one.table == "metrics" for one in tables):
            checks.insert(1, await growth.counted(self.paces(), tables, whole, disk))
        return checks

    async def paces(self) -> list[Pace]:
        """What came lately, if the database counts it in time."""
        await self.scene.session.begin()
        await self.scene.session.execute(f"SET LOCAL statement_timeout = {growth.milliseconds()}")
        return await growth.paces(self.scene)

    async def upkeep(self) -> list[Check]:
        tables = [
            upkeep.Kept(row["relname"], int(row["live"]), int(row["dead"]), bool(row["analysed"]))
            for row in self.tables
        ]
        limit = int(self.settings.get("autovacuum_freeze_max_age", 200_000_000))
        on = all(self.settings.get(name) == "on" for name in ("autovacuum", "track_counts"))
        return [upkeep.vacuum(on, tables), upkeep.wraparound(int(self.login["age"]), limit)]

    async def timeouts(self) -> list[Check]:
        idle = int(self.settings["idle_in_transaction_session_timeout"])
        lock = int(self.settings["lock_timeout"])
        found = f"idle_in_transaction_session_timeout {_time(idle)}, lock_timeout {_time(lock)}, statement_timeout "
        found += _time(int(self.settings["statement_timeout"]))
        if idle and lock:
            return [Check(name="timeouts", title="Time limits", outcome="pass", found=found)]
        found += ": a client that hangs in a transaction holds its locks for ever"
        sets = [("idle_in_transaction_session_timeout", idle, "60s"), ("lock_timeout", lock, "30s")]
        remedy = "; ".join(f"ALTER ROLE {self.quoted} SET {name} = '{to}'" for name, now, to in sets if not now)
        return [Check(name="timeouts", title="Time limits", outcome="warn", found=found, remedy=remedy)]

    async def point_in_time(self) -> list[Check]:
        mode, level = self.settings["archive_mode"], self.settings["wal_level"]
        if mode != "off" and level != "minimal":
            return [upkeep.point_in_time(True, f"archive_mode {mode}, wal_level {level}", "")]
        how = "wal_level=replica, archive_mode=on and an archive_command (pgBackRest, WAL-G, Barman)"
        return [upkeep.point_in_time(False, f"archive_mode {mode}, wal_level {level}", how)]

    async def encoding(self) -> list[Check]:
        found = str(self.login["encoding"])
        if found == "UTF8":
            return [Check(name="encoding", title="Character set", outcome="pass", found=found)]
        remedy = "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, and migrate into it"
        why = f"{found}: not every name and value that MLflow takes can be kept"
        return [Check(name="encoding", title="Character set", outcome="fail", found=why, remedy=remedy)]


def _time(milliseconds: int) -> str:
    return f"{milliseconds / 1000:g} s" if milliseconds else "none"
