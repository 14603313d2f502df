"""`trackbench readiness` on a real MySQL, and on MLflow's authentication database."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from ready import GOOD, checks, fill, not_looked_at
from secured import Secured, secured
from stores import ARTIFACTS, connected, sql

from bench.readiness.backup_mysql import MysqlBackup
from bench.servers import RunningServer
from bench.stores import schema
from bench.stores.url import StoreUrl, parse

pytestmark = [pytest.mark.servers, pytest.mark.slow]
_RIGHTS = "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX, REFERENCES"


@pytest.fixture(scope="module")
def there(public_tmp: Path) -> Iterator[Secured]:
    """A MySQL with TLS and a store whose keys are compared exactly."""
    with secured("mysql", public_tmp) as server:
        url = parse(server.server.url("store"), "mysql")
        sql(url, "ALTER DATABASE store CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin")
        asyncio.run(schema.create(url, ARTIFACTS))
        fill(url)
        yield server


@pytest.fixture
def login(there: Secured) -> Iterator[StoreUrl]:
    """An account with MLflow's rights and no others, from this machine only, over verified TLS."""
    admin = parse(there.server.url("store"), "mysql")
    sql(admin, f"CREATE USER plain@'127.0.0.1' IDENTIFIED BY '{GOOD}' REQUIRE SSL")
    sql(admin, f"GRANT {_RIGHTS} ON store.* TO plain@'127.0.0.1'")
    yield replace(there.url(), user="plain", password=GOOD)
    sql(admin, "DROP USER plain@'127.0.0.1'")


def test_an_ordinary_account_over_verified_tls_with_its_backup(there: Secured, login: StoreUrl) -> None:
    found = checks(login, backup=True)
    assert not_looked_at(found) == [f"access: {found['access'].found}"]
    assert found["access"].remedy == "GRANT SELECT ON mysql.user TO 'plain'@'127.0.0.1'"
    assert [check.found for check in found.values() if check.outcome == "fail"] == []
    assert "TLSv1.3" in found["tls"].found
    assert "refuses" in found["tls_required"].found
    assert [found[name].outcome for name in ("encoding", "role", "backup", "structure", "disk")][:4] == ["pass"] * 4
    assert "restored and equal, 305 rows in 64 tables" in found["backup"].found
    assert "43 metrics and 0.4 runs a day over 7 days" in found["growth"].found
    sql(parse(there.server.url("store"), "mysql"), "GRANT SELECT ON mysql.user TO plain@'127.0.0.1'")
    assert checks(login)["access"].outcome == "pass"  # 'trackbench'@'%' too: the server listens on loopback only


def test_planted_defects_of_mysql_are_named(there: Secured, login: StoreUrl) -> None:
    admin = parse(there.server.url("store"), "mysql")
    with connected(admin) as cursor:
        for statement in (
            "ALTER USER plain@'127.0.0.1' IDENTIFIED BY 'mlflow' REQUIRE NONE WITH MAX_USER_CONNECTIONS 30",
            "REVOKE ALTER ON store.* FROM plain@'127.0.0.1'",
            "DROP INDEX index_metrics_run_uuid_key_step ON metrics",
            "CREATE TABLE loose (a INT PRIMARY KEY) ENGINE = MyISAM",
            "ALTER TABLE workspaces MODIFY name VARCHAR(63) COLLATE utf8mb4_0900_ai_ci",
            "SET GLOBAL innodb_flush_log_at_trx_commit = 0",
        ):
            cursor.execute(statement)
        try:
            bad = checks(replace(login, password="mlflow"))
        finally:
            for statement in (
                "SET GLOBAL innodb_flush_log_at_trx_commit = 1",
                "ALTER TABLE workspaces MODIFY name VARCHAR(63) COLLATE utf8mb4_0900_bin",
                "DROP TABLE loose",
                "CREATE INDEX index_metrics_run_uuid_key_step ON metrics (run_uuid, `key`, step)",
            ):
                cursor.execute(statement)
    names = ("password", "connections", "role", "structure", "tables_kept", "durability")
    assert [bad[name].outcome for name in names] == ["fail"] * len(names)
    assert "admits 30 (max_user_connections)" in bad["connections"].found
    assert "lacks ALTER" in bad["role"].found
    assert "loose (MyISAM)" in bad["tables_kept"].found
    assert (bad["encoding"].outcome, "workspaces.name" in bad["encoding"].found) == ("warn", True)
    assert "admits this login without TLS" in bad["tls_required"].found or "not required" in bad["tls_required"].found


def test_rights_that_are_held_through_roles_and_patterns(there: Secured, login: StoreUrl) -> None:
    admin = parse(there.server.url("store"), "mysql")
    with connected(admin) as cursor:
        try:
            for statement in (
                "REVOKE ALL ON store.* FROM plain@'127.0.0.1'",
                "CREATE ROLE reader, writer",
                "GRANT SELECT, INSERT, UPDATE, DELETE ON `st%`.* TO reader",
                f"GRANT {_RIGHTS} ON `stor_`.* TO writer",
                "GRANT reader, writer TO plain@'127.0.0.1'",
                "SET DEFAULT ROLE ALL TO plain@'127.0.0.1'",
            ):
                cursor.execute(statement)
            assert checks(login)["role"].outcome == "pass"
            cursor.execute("SET DEFAULT ROLE reader TO plain@'127.0.0.1'")
            bad = checks(login)["role"]
            assert (bad.outcome, "lacks CREATE" in bad.found) == ("fail", True)
            assert "SET DEFAULT ROLE ALL TO 'plain'@'127.0.0.1'" in bad.remedy
        finally:
            cursor.execute("DROP ROLE IF EXISTS reader, writer")


def test_the_administrators_account_is_too_powerful(there: Secured) -> None:
    found = checks(there.url())
    assert (found["role"].outcome, "SUPER" in found["role"].found) == ("fail", True)


def test_a_restored_dump_that_differs(there: Secured, login: StoreUrl, monkeypatch: pytest.MonkeyPatch) -> None:
    dump, restore = MysqlBackup.dump, MysqlBackup.restore
    admin = parse(there.server.url("store"), "mysql")

    async def badly(self: MysqlBackup, file: Path, server: RunningServer | None) -> StoreUrl:
        restored = await restore(self, file, server)
        sql(restored, "UPDATE runs SET name = 'Run 1' WHERE name = 'run 1'")
        return restored

    async def meanwhile(self: MysqlBackup, moment: object, folder: Path) -> Path:
        sql(admin, "DELETE FROM metrics WHERE step = 99")
        return await dump(self, moment, folder)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(MysqlBackup, "restore", badly)
        found = checks(login, backup=True)["backup"]
        assert (found.outcome, 'name was "run 1", is "Run 1"' in found.found) == ("fail", True)
    monkeypatch.setattr(MysqlBackup, "dump", meanwhile)
    found = checks(login, backup=True)["backup"]
    assert (found.outcome, "metrics has 3 rows missing" in found.found) == ("unknown", True)


def test_the_default_administrator_of_the_authentication_database(tmp_path: Path) -> None:
    """As MLflow itself makes it, with the password that its manual prints."""
    url = StoreUrl("sqlite", path=tmp_path / "basic_auth.db")
    make = (
        "import sys; from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore as Store; store = Store(); "
        "store.init_db(sys.argv[1]); store.create_user('admin', 'password1234', is_admin=True)"
    )
    subprocess.run([sys.executable, "-c", make, url.mlflow], check=True, capture_output=True)
    found = checks(url, backup=True)
    assert not_looked_at(found) == []
    assert [found[name].outcome for name in ("revision", "structure", "backup")] == ["pass"] * 3
    assert "growth" not in found
    assert (found["admin_password"].outcome, "admin" in found["admin_password"].found) == ("fail", True)
    change = f"store.update_user('admin', password='{GOOD}')"
    subprocess.run([sys.executable, "-c", make.rpartition(";")[0] + "; " + change, url.mlflow], check=True)
    assert checks(url)["admin_password"].outcome == "pass"
