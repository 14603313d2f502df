"""`trackbench readiness` on real databases: each check is planted both ways, as far as a running server lets it."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from ready import GOOD, checks, fill, look, not_looked_at, ordinary, outcomes
from secured import secured
from stores import ARTIFACTS, Park, sql, wait_until

from bench.faults.proxy import Impairment, Proxy
from bench.readiness import growth
from bench.readiness.backup_postgresql import PostgresqlBackup
from bench.readiness.check import Readiness
from bench.readiness.growth import Pace
from bench.readiness.look import readiness
from bench.readiness.scene import Scene, Server
from bench.servers import RunningServer
from bench.stores import schema
from bench.stores.url import StoreUrl

pytestmark = pytest.mark.servers
_DUMPS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'trackbench backup'"
Fresh = Callable[[str], StoreUrl]


# PostgreSQL


def test_an_ordinary_login_with_its_backup_and_what_it_may_not_see(fresh: Fresh) -> None:
    owner = fresh("postgresql")
    url = ordinary(owner)
    fill(url)
    found = checks(url, backup=True)
    assert not_looked_at(found) == [f"access: {found['access'].found}"]
    assert "permission denied" in found["access"].found
    assert f"GRANT EXECUTE ON FUNCTION pg_hba_file_rules() TO {url.user}" in found["access"].remedy
    assert [check.name for check in found.values() if check.outcome == "fail"] == []
    assert found["role"].outcome == "pass"
    assert "restored and equal, 305 rows in 64 tables" in found["backup"].found
    assert "43 metrics and 0.4 runs a day over 7 days" in found["growth"].found
    assert "metrics 300 rows" in found["sizes"].found
    for statement in found["access"].remedy.removesuffix(" (as superuser)").split("; "):
        sql(owner, statement)
    assert outcomes(url, "access") == ["pass"]


def test_planted_defects_of_postgresql_are_named(fresh: Fresh) -> None:
    url = fresh("postgresql")
    login = ordinary(url)
    good = checks(login)
    assert [good[name].outcome for name in ("structure", "tables_kept", "revision", "encoding")] == ["pass"] * 4
    for statement in (
        "DROP INDEX index_metrics_run_uuid_key_step",
        "ALTER TABLE latest_metrics SET UNLOGGED",
        "UPDATE alembic_version SET version_num = 'dc11669786a5'",
        f"ALTER TABLE tags OWNER TO {url.user}",
        f"ALTER ROLE {login.user} CREATEDB CONNECTION LIMIT 40",
        f"ALTER ROLE {login.user} SET idle_in_transaction_session_timeout = '1min'",
        f"ALTER ROLE {login.user} SET lock_timeout = '30s'",
        f"ALTER ROLE {login.user} SET synchronous_commit = off",
    ):
        sql(url, statement)
    bad = checks(login)
    assert "run_uuid, key, step" in bad["structure"].found
    assert (bad["tables_kept"].outcome, "latest_metrics" in bad["tables_kept"].found) == ("fail", True)
    assert (bad["role"].outcome, "CREATEDB" in bad["role"].found) == ("fail", True)
    assert (bad["connections"].outcome, "admits 40 (the login's" in bad["connections"].found) == ("fail", True)
    assert (good["timeouts"].outcome, bad["timeouts"].outcome) == ("warn", "pass")
    assert (good["durability"].outcome, bad["durability"].outcome) == ("pass", "fail")
    sql(url, f"ALTER ROLE {login.user} NOCREATEDB CONNECTION LIMIT -1")
    sql(url, "DELETE FROM alembic_version")
    lacking = checks(login)
    assert (lacking["role"].outcome, "ownership of 1 tables (tags)" in lacking["role"].found) == ("fail", True)
    assert (lacking["revision"].outcome, lacking["structure"].outcome) == ("fail", "unknown")


def test_growth_that_is_not_counted_in_time_takes_nothing_along(fresh: Fresh, monkeypatch: pytest.MonkeyPatch) -> None:
    async def slowly(scene: Scene) -> list[Pace]:
        await scene.session.fetch("SELECT pg_sleep(60)")
        return []

    monkeypatch.setattr(growth, "paces", slowly)
    monkeypatch.setattr(growth, "milliseconds", lambda: 50)
    found = checks(fresh("postgresql"))
    assert (found["growth"].outcome, "statement timeout" in found["growth"].found) == ("unknown", True)
    assert [found[name].outcome for name in ("sizes", "autovacuum")] == ["pass"] * 2
    assert "disk" in found


def test_weak_passwords_and_logins_without_any(park: Park, fresh: Fresh) -> None:
    url = fresh("postgresql")
    weak = ordinary(url, "mlflow", "SUPERUSER")
    found = look(weak)
    by_name = {check.name: check for check in found.checks}
    assert [by_name[name].outcome for name in ("password", "role")] == ["fail", "fail"]
    assert ":mlflow@" not in found.model_dump_json()
    with rules(park.server("postgresql"), url, f"host all {weak.user} 127.0.0.1/32 trust\nhost all all all md5\n"):
        trusted = checks(replace(weak, password=GOOD))
        assert (trusted["password"].outcome, "asks this login for none" in trusted["password"].found) == ("fail", True)
        assert (trusted["access"].outcome, "asks for no password" in trusted["access"].found) == ("warn", True)
        assert "md5" in trusted["access"].found


@contextmanager
def rules(server: RunningServer, url: StoreUrl, lines: str) -> Iterator[None]:
    """Lines before all others of pg_hba.conf, in force."""
    file = server.folder / "data" / "pg_hba.conf"
    before = file.read_text()

    def reload(text: str) -> None:
        file.write_text(text)
        sql(url, "SELECT pg_reload_conf()")
        time.sleep(0.2)

    reload(lines + before)
    try:
        yield
    finally:
        reload(before)


@pytest.mark.slow
def test_over_verified_tls_that_the_server_demands(public_tmp: Path) -> None:
    with secured("postgresql", public_tmp) as there:
        url = there.url()
        asyncio.run(schema.create(url, ARTIFACTS))
        found = checks(url, backup=True)
        assert [found[name].outcome for name in ("tls", "tls_required", "backup")] == ["pass"] * 3
        assert "TLSv1.3, and the server's name and certificate are verified" in found["tls"].found
        assert "not required" in found["tls_required"].found
        with rules(there.server, url, "hostnossl all all all reject\n"):
            assert "refuses this login without TLS" in checks(url)["tls_required"].found
            unverified = replace(url, options=(("sslmode", "require"),))
            assert "not verified" in checks(unverified)["tls"].found


@pytest.mark.slow
def test_settings_that_risk_the_data(park: Park) -> None:
    from bench import servers
    from bench.servers import databases
    from bench.stores.url import parse

    settings = {"fsync": "off", "autovacuum": "off", "max_connections": "50", "archive_mode": "on"}
    with servers.start("postgresql", settings) as server:
        databases.create(server, "store")
        url = parse(server.url("store"), "postgresql")
        asyncio.run(schema.create(url, ARTIFACTS))
        found = checks(url)
        names = ("durability", "autovacuum", "connections", "point_in_time", "disk")
        assert [found[name].outcome for name in names] == ["fail", "fail", "fail", "pass", found["disk"].outcome]
        assert " free (" in found["disk"].found  # it is known to be this machine's disk
        assert checks_of(url, Server(workers=1)) == "pass"


def checks_of(url: StoreUrl, server: Server) -> str:
    return next(check.outcome for check in look(url, server=server).checks if check.name == "connections")


@pytest.mark.slow
def test_a_restored_backup_that_differs_is_named(fresh: Fresh, monkeypatch: pytest.MonkeyPatch) -> None:
    url = fresh("postgresql")
    fill(url)
    restore = PostgresqlBackup.restore

    async def badly(self: PostgresqlBackup, file: Path, server: RunningServer | None) -> StoreUrl:
        restored = await restore(self, file, server)
        sql(restored, "DELETE FROM metrics WHERE step = 7 AND run_uuid LIKE '%%2'")
        sql(restored, "ALTER TABLE params DROP CONSTRAINT param_pk")
        return restored

    monkeypatch.setattr(PostgresqlBackup, "restore", badly)
    found = checks(url, backup=True)["backup"]
    assert found.outcome == "fail"
    assert "metrics has 1 rows missing" in found.found
    assert "primary key of params" in found.found


@pytest.mark.slow
def test_what_others_write_during_a_dump_of_postgresql_does_not_count(
    fresh: Fresh, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = fresh("postgresql")
    fill(url)
    dump = PostgresqlBackup.dump

    async def meanwhile(self: PostgresqlBackup, moment: object, folder: Path) -> Path:
        sql(url, "DELETE FROM metrics WHERE step = 7")
        return await dump(self, moment, folder)  # type: ignore[arg-type]

    monkeypatch.setattr(PostgresqlBackup, "dump", meanwhile)
    assert checks(url, backup=True)["backup"].outcome == "pass"


@pytest.mark.slow
def test_nothing_of_a_backup_stays_when_its_owner_is_killed(fresh: Fresh, public_tmp: Path) -> None:
    url = fresh("postgresql")
    fill(url, runs=1, metrics=1)
    many = "SELECT 'k', g, g, g, run_uuid, false FROM runs, generate_series(1, 400000) g"
    sql(url, f"INSERT INTO metrics (key, value, timestamp, step, run_uuid, is_nan) {many}")
    scratch = public_tmp / "scratch"
    scratch.mkdir(mode=0o777)
    scratch.chmod(0o777)
    for word in ("dumping", "restoring", "comparing"):
        environment = os.environ | {"TMPDIR": str(scratch), "URL": url.mlflow}
        argv = [sys.executable, "-m", "bench.cli", "readiness", "env:URL"]
        with subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
            assert process.stderr is not None
            assert any(word.encode() in line for line in process.stderr)
            assert list(scratch.iterdir())
            shown = subprocess.run(["ps", "axww"], capture_output=True, text=True, check=True).stdout
            assert url.password not in shown
            process.send_signal(signal.SIGKILL)
        wait_until(lambda: not list(scratch.iterdir()), f"nothing stays when it was {word}")
        wait_until(lambda: sql(url, _DUMPS) == [(0,)], "pg_dump ends too")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["postgresql", "mysql"])
def test_twenty_milliseconds_away(fresh: Fresh, name: str) -> None:
    url = fresh(name)

    async def far() -> tuple[Readiness, int]:
        proxy = await Proxy.start("127.0.0.1", url.port)
        proxy.impair(Impairment("latency", delay_ms=10))
        try:
            return await readiness(replace(url, port=proxy.port), with_backup=False), proxy.connections
        finally:
            await proxy.close()

    found, connections = asyncio.run(far())
    assert connections <= 6
    assert found.seconds["checks"] < 30
    assert not [check for check in found.checks if check.outcome == "unknown"]


# TimescaleDB


@pytest.mark.slow
def test_chunks_of_timescaledb(fresh: Fresh) -> None:
    url = fresh("timescaledb")
    fill(url)
    good = checks(replace(url, store="postgresql"), backup=True)  # MLflow's URL does not tell it
    assert [good[name].outcome for name in ("chunks", "licence", "backup", "structure")] == ["pass"] * 4
    assert "300 rows" in good["sizes"].found
    run = f"{0:032x}"
    hours = "SELECT 'far', 1, g * 3600000::bigint, g, %s, false FROM generate_series(1, 150) g"
    sql(url, "SELECT set_chunk_time_interval('metrics', 600000::bigint)")
    sql(url, f"INSERT INTO metrics (key, value, timestamp, step, run_uuid, is_nan) {hours}", run)
    bad = checks(url)["chunks"]
    assert (bad.outcome, "151 chunks" in bad.found) == ("fail", True)
    assert "set_chunk_time_interval" in bad.remedy
