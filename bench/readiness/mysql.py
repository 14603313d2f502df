"""What a MySQL or MariaDB database is asked."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal

import sqlalchemy as sa

from bench.readiness import access, grants, growth, limits, password, safety, tls, upkeep
from bench.readiness.access import Account
from bench.readiness.backup import Backup
from bench.readiness.backup_mysql import MariadbBackup, MysqlBackup
from bench.readiness.check import Check, Outcome
from bench.readiness.database import Database
from bench.readiness.growth import Disk, Size
from bench.readiness.places_here import disk_of
from bench.readiness.scene import Question, listed, one_line

_VARIABLES = (
    "max_connections", "max_user_connections", "require_secure_transport", "bind_address", "log_bin", "datadir",
    "binlog_expire_logs_seconds", "expire_logs_days", "innodb_lock_wait_timeout", "innodb_stats_persistent",
    "innodb_stats_auto_recalc", "server_uuid", "extra_max_connections", "lock_wait_timeout", "pid_file", "port",
    "partial_revokes",
)  # fmt: skip
_TABLES = (
    "SELECT TABLE_NAME, COALESCE(ENGINE, ''), COALESCE(TABLE_ROWS, 0), COALESCE(DATA_LENGTH, 0) + "
    "COALESCE(INDEX_LENGTH, 0), COALESCE(DATA_FREE, 0) FROM information_schema.TABLES "
    "WHERE TABLE_SCHEMA = DATABASE() AND TABLE_TYPE = 'BASE TABLE' ORDER BY TABLE_NAME"
)
_KEYS = (
    "SELECT DISTINCT c.TABLE_NAME, c.COLUMN_NAME, c.CHARACTER_SET_NAME, c.COLLATION_NAME "
    "FROM information_schema.COLUMNS c "
    "JOIN information_schema.STATISTICS s USING (TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME) "
    "WHERE c.TABLE_SCHEMA = DATABASE() AND s.NON_UNIQUE = 0 AND c.COLLATION_NAME IS NOT NULL "
    "AND c.TABLE_NAME NOT LIKE 'alembic%'"
)
_POWERS = ("ALL PRIVILEGES", "SUPER", "GRANT OPTION", "CREATE USER", "SHUTDOWN", "FILE", "SYSTEM_USER")
_NEEDED = ("SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "DROP", "INDEX", "REFERENCES")
_ROLE = "Rights of MLflow's login"
_PEERS = ("auth_socket", "unix_socket", "authentication_ldap_sasl", "authentication_kerberos")


class Mysql(Database):
    """MySQL's questions; `collect` asks the statements that most of them share."""

    own_account: ClassVar[str] = "SHOW CREATE USER CURRENT_USER()"
    default_role: ClassVar[str] = "SET DEFAULT ROLE ALL TO {0}"
    bounded: ClassVar[str] = "SELECT /*+ MAX_EXECUTION_TIME({limit}) */ * FROM ({{}}) AS counted"

    async def collect(self) -> None:
        fetch = self.scene.session.fetch
        names = ", ".join(f"'{name}'" for name in _VARIABLES)
        rows = await fetch(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})")
        self.settings = {row[0]: str(row[1]) for row in rows}
        row = (await fetch("SELECT CURRENT_USER(), @@character_set_database, @@collation_database"))[0]
        self.login, self.charset, self.collation = (str(value) for value in row)
        self.roles, self.role_error = "", ""
        self.grants = await self.all_grants()
        self.account = str((await fetch(self.own_account))[0][0])
        self.threads = int((await fetch("SHOW GLOBAL STATUS LIKE 'Threads_connected'"))[0][1])
        self.sessions = await self.scene.store.writers_left(self.scene.session, pooled=False)
        await self.fresh_statistics()
        self.tables: Sequence[Any] = await fetch(_TABLES)

    async def all_grants(self) -> list[str]:
        """The login's rights, with those of the roles that are active in its sessions as the server begins them."""
        fetch = self.scene.session.fetch
        using = ""
        try:
            active = str((await fetch("SELECT CURRENT_ROLE()"))[0][0])
            if active != "NONE":
                self.roles, using = active, f" USING {active}"
            rows = await fetch(f"SHOW GRANTS FOR CURRENT_USER(){using}")
        except Exception as error:
            self.role_error = one_line(error)
            rows = await fetch("SHOW GRANTS FOR CURRENT_USER()")
        return [str(row[0]) for row in rows]

    async def fresh_statistics(self) -> None:
        """MySQL shows sizes as they were up to a day ago otherwise."""
        await self.scene.session.execute("SET SESSION information_schema_stats_expiry = 0")

    def questions(self) -> list[Question]:
        return [
            Question("password", "Password of MLflow's login", self.password),
            Question("tls", "TLS", self.tls),
            Question("access", "Who may connect from where", self.access),
            Question("role", _ROLE, self.role),
            Question("connections", "Connection limit", self.connections),
            Question("durability", "Acknowledged writes survive", self.durability),
            Question("sizes", "Table sizes and growth", self.sizes),
            Question("statistics", "Statistics", self.statistics),
            Question("timeouts", "Time limits", self.timeouts),
            Question("point_in_time", "Recovery to a point in time", self.point_in_time),
            Question("encoding", "Character set and collation", self.encoding),
        ]

    @property
    def quoted(self) -> str:
        """The account as statements want it."""
        user, _, host = self.login.rpartition("@")
        return f"'{user}'@'{host}'"

    @cached_property
    def private(self) -> bool | None:
        """Whether the server listens on its machine's loopback only."""
        listens = self.settings.get("bind_address")
        if listens is None:
            return None
        return all(name.strip() in ("localhost", "127.0.0.1", "::1") for name in listens.split(","))

    async def password(self) -> list[Check]:
        url = self.scene.url
        change = f"ALTER USER {self.quoted} IDENTIFIED BY '…'"
        return [password.check(url.user, url.password, url.database, change)]

    async def tls(self) -> list[Check]:
        protocol = await asyncio.to_thread(_protocol, self.scene.url.mlflow)
        demanded = self.settings.get("require_secure_transport") in ("ON", "1")
        account = bool(re.search(r"REQUIRE (SSL|X509|SUBJECT|ISSUER|CIPHER)", self.account))
        unencrypted: Literal["refused", "admitted"] = "refused" if demanded or account else "admitted"
        wire = tls.Wire(
            encrypted=bool(protocol),
            protocol=protocol,
            verified=self.scene.url.verified,
            unencrypted=unencrypted,
            local=self.scene.local,
            private=self.private,
            verify="?ssl_ca=/path/to/ca.pem",
            demand=f"SET PERSIST require_secure_transport = ON, or ALTER USER {self.quoted} REQUIRE SSL",
        )
        return tls.checks(wire)

    async def all_accounts(self) -> list[Account] | None:
        """Every account, or None without the right to see them."""
        try:
            rows = await self.scene.session.fetch(
                "SELECT User, Host, plugin, COALESCE(authentication_string, '') <> '', ssl_type <> '' FROM mysql.user "
                "WHERE account_locked = 'N'"
            )
        except Exception as error:
            if error.args[:1] not in ((1142,), (1143,), (1044,), (1370,)):
                raise
            return None
        return [Account(row[0], row[1], bool(row[3]) or row[2] in _PEERS, bool(row[4])) for row in rows]

    async def access(self) -> list[Check]:
        found = await self.all_accounts()
        user, _, host = self.login.rpartition("@")
        own = Account(user, host, True, "REQUIRE NONE" not in self.account)
        return [access.accounts(found or [own], self.quoted, self.private, found is not None)]

    async def role(self) -> list[Check]:
        literal = self.settings.get("partial_revokes") in ("ON", "1")
        rights = grants.rights(self.grants, self.scene.url.database, literal=literal)
        powers = [name for name in _POWERS if name in rights.everywhere] + ["GRANT OPTION"] * rights.may_grant
        if not powers and "SELECT" in rights.everywhere:
            powers = ["rights on every database"]
        held = rights.everywhere | rights.here
        lacks = [] if "ALL PRIVILEGES" in held else [name for name in _NEEDED if name not in held]
        give = f"GRANT {', '.join(_NEEDED)} ON `{self.scene.url.database}`.* TO {self.quoted}"
        if lacks and not powers and rights.roles and self.role_error:
            found = f"what comes of {listed(rights.roles, 3)} could not be seen: {self.role_error}"
            remedy = f"give the login the rights themselves: {give}"
            return [Check(name="role", title=_ROLE, outcome="unknown", found=found, remedy=remedy)]
        active = grants.names(self.roles)
        if idle := [name for name in rights.roles if name not in active]:
            make = self.default_role.format(self.quoted, idle[0])
            give = f"if {listed(idle, 3)} has them, make it a default role: {make}; else {give}"
        remedy = f"give MLflow a login of its own: CREATE USER 'mlflow'@'<its address>' …; {give}; REVOKE the rest"
        return [access.role(self.quoted, powers, lacks, remedy, give)]

    async def connections(self) -> list[Check]:
        ways = [(int(self.settings["max_connections"]), "max_connections")]
        for_each = int(self.settings.get("max_user_connections", 0))
        if own := re.search(r"MAX_USER_CONNECTIONS (\d+)", self.account):
            for_each = int(own[1]) or for_each
        ways += [(for_each, "max_user_connections")] * (for_each > 0)
        most, set_by = min(ways)
        change = "SET PERSIST max_connections = {}"
        if set_by != "max_connections":
            change = f"ALTER USER {self.quoted} WITH MAX_USER_CONNECTIONS {{}}"
        others = max(0, self.threads - 1 - self.sessions) if set_by == "max_connections" else 0
        server = self.scene.server.on([row[0] for row in self.tables])
        return [limits.check(limits.Limits(most, set_by, others, self.sessions, change), server)]

    async def durability(self) -> list[Check]:
        store, session = self.scene.store, self.scene.session
        promised = store.durability(await store.settings(session))
        remedy = "SET PERSIST innodb_flush_log_at_trx_commit = 1, sync_binlog = 1; innodb_doublewrite=ON at the start"
        others = [f"{row[0]} ({row[1]})" for row in self.tables if row[1] and row[1] != "InnoDB"]
        mend = f"ALTER TABLE {others[0].partition(' ')[0]} ENGINE = InnoDB (each)" if others else ""
        return [
            safety.durability(promised, remedy),
            safety.kept(others, "kept without transactions", "a crash may tear them", mend),
        ]

    async def whole(self) -> int:
        return sum(int(row[3]) for row in self.tables)

    def backup(self) -> Backup:
        return MysqlBackup(self.scene)

    async def table_sizes(self) -> list[Size]:
        return [Size(row[0], int(row[2]), int(row[3])) for row in self.tables]

    async def disk(self) -> Disk | None:
        folder = self.settings.get("datadir")
        mark = self.settings.get("server_uuid")
        if not self.scene.local or not folder or not mark:
            return None
        return disk_of(folder, "auto.cnf", f"server-uuid={mark}")

    async def sizes(self) -> list[Check]:
        tables, disk = await self.table_sizes(), await self.disk()
        whole = await self.whole()
        checks = [growth.sizes(tables, whole), growth.disk_space(disk, whole, elsewhere=not self.scene.local)]
        if any(one.table == "metrics" for one in tables):
            counting = growth.paces(self.scene, self.bounded.format(limit=growth.milliseconds()))
            checks.insert(1, await growth.counted(counting, tables, whole, disk))
        return checks

    async def statistics(self) -> list[Check]:
        off = [
            name
            for name in ("innodb_stats_persistent", "innodb_stats_auto_recalc")
            if self.settings.get(name) not in ("ON", "1")
        ]
        loose = [f"{row[0]} ({int(row[4]) / 1e9:.1f} GB)" for row in self.tables if row[4] > 10**9 and row[4] > row[3]]
        title = "Statistics and free pages"
        if off or loose:
            words = [f"{listed(off)} off: plans go by old numbers"] * bool(off)
            words += [f"more free pages than rows in {listed(loose)}"] * bool(loose)
            remedy = "; ".join([*(f"SET PERSIST {name} = ON" for name in off), "OPTIMIZE TABLE (each)" * bool(loose)])
            return [
                Check(name="statistics", title=title, outcome="warn", found="; ".join(words), remedy=remedy.strip("; "))
            ]
        return [Check(name="statistics", title=title, outcome="pass", found="kept, and renewed as tables change")]

    async def timeouts(self) -> list[Check]:
        rows_s, tables_s = (int(self.settings[name]) for name in ("innodb_lock_wait_timeout", "lock_wait_timeout"))
        found = f"innodb_lock_wait_timeout {rows_s} s, lock_wait_timeout {tables_s} s"
        outcome: Outcome = "pass" if rows_s <= 60 else "warn"
        remedy = "" if outcome == "pass" else "SET PERSIST innodb_lock_wait_timeout = 50"
        return [Check(name="timeouts", title="Time limits", outcome=outcome, found=found, remedy=remedy)]

    async def point_in_time(self) -> list[Check]:
        if self.settings.get("log_bin") not in ("ON", "1"):
            how = "start the server with log_bin, and copy the binary logs to another machine (mysqlbinlog --raw)"
            return [upkeep.point_in_time(False, "log_bin is off", how)]
        seconds = int(self.settings.get("binlog_expire_logs_seconds", 0))
        days = seconds / 86400 or float(self.settings.get("expire_logs_days", 0))
        if not days:
            title, found = (
                "Recovery to a point in time",
                "log_bin is on, and its logs are never removed: they fill the disk",
            )
            remedy = (
                "copy them to another machine (mysqlbinlog --raw), then SET GLOBAL binlog_expire_logs_seconds = 604800"
            )
            return [Check(name="point_in_time", title=title, outcome="warn", found=found, remedy=remedy)]
        kept = f"binary logs are kept for {days:g} days"
        return [upkeep.point_in_time(True, f"log_bin is on, {kept}", "")]

    async def encoding(self) -> list[Check]:
        """MLflow's keys differ in case; a collation that does not see it makes them one."""
        title = "Character set and collation"
        rows = await self.scene.session.fetch(_KEYS)
        small = [f"{row[0]}.{row[1]} ({row[2]})" for row in rows if row[2] != "utf8mb4"]
        folding = [
            f"{row[0]}.{row[1]} ({row[3]})" for row in rows if not str(row[3]).endswith(("_bin", "_cs", "_as_cs"))
        ]
        found = f"database {self.charset}, {self.collation}"
        convert = f"ALTER DATABASE `{self.scene.url.database}` CHARACTER SET utf8mb4 COLLATE {self.exact}, "
        convert += "then `trackbench migrate` into a fresh schema there"
        if small:
            found += f"; keys that can't hold every character: {listed(small, 3)}"
            return [Check(name="encoding", title=title, outcome="fail", found=found, remedy=convert)]
        if folding:
            found += f"; {len(folding)} keys take 'Loss' and 'loss' for the same: {listed(folding, 2)}"
            return [Check(name="encoding", title=title, outcome="warn", found=found, remedy=convert)]
        return [Check(name="encoding", title=title, outcome="pass", found=f"{found}; keys are compared exactly")]

    exact: ClassVar[str] = "utf8mb4_0900_bin"


class Mariadb(Mysql):
    """MariaDB's own ways."""

    own_account = "SHOW CREATE USER CURRENT_USER()"
    bounded = "SET STATEMENT max_statement_time={limit}/1000 FOR {{}}"
    exact = "utf8mb4_nopad_bin"
    default_role = "SET DEFAULT ROLE {1} FOR {0}"

    def backup(self) -> Backup:
        return MariadbBackup(self.scene)

    async def all_grants(self) -> list[str]:
        """MariaDB shows those of the active role, and of all that it holds, by itself."""
        fetch = self.scene.session.fetch
        self.roles = str((await fetch("SELECT COALESCE(CURRENT_ROLE(), '')"))[0][0])
        return [str(row[0]) for row in await fetch("SHOW GRANTS")]

    async def fresh_statistics(self) -> None:
        """Nothing: MariaDB does not keep old ones."""

    async def all_accounts(self) -> list[Account] | None:
        try:
            rows = await self.scene.session.fetch(
                "SELECT User, Host, JSON_VALUE(Priv, '$.plugin'), COALESCE(JSON_VALUE(Priv, "
                "'$.authentication_string'), '') <> '', COALESCE(JSON_VALUE(Priv, '$.ssl_type'), 0) > 0 "
                "FROM mysql.global_priv WHERE COALESCE(JSON_VALUE(Priv, '$.account_locked'), 0) = 0 "
                "AND COALESCE(JSON_VALUE(Priv, '$.is_role'), 0) = 0"
            )
        except Exception as error:
            if error.args[:1] not in ((1142,), (1044,)):
                raise
            return None
        return [Account(row[0], row[1], bool(row[3]) or row[2] in _PEERS, bool(row[4])) for row in rows]

    async def disk(self) -> Disk | None:
        """MariaDB writes no number of its own into its folder: it can't be told from another's."""
        return None


def _protocol(uri: str) -> str:
    """What MLflow's own driver encrypts with; empty if it does not."""
    engine = sa.create_engine(uri, poolclass=sa.NullPool, connect_args={"connect_timeout": 20})
    try:
        with engine.connect() as connection:
            rows = connection.execute(sa.text("SHOW SESSION STATUS LIKE 'Ssl_version'")).all()
            return str(rows[0][1]) if rows else ""
    finally:
        engine.dispose()
