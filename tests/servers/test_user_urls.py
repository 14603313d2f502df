"""Databases that the user gave by URL: used beside what is in them, left as they were, refused when they don't fit."""

import asyncio
import hashlib
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from commands import SHORT, Ask, Command, refused, scenario
from stores import Park, new_run, opened, slow_but, sql

from bench import servers
from bench.results import read
from bench.servers import databases
from bench.stores import schema
from bench.stores.tracking import Tracking
from bench.stores.url import StoreUrl

pytestmark = [pytest.mark.servers, pytest.mark.usefixtures("quick_start")]
SECRET = "Geh3im"
TRAIN = (
    '[workloads.t]\nkind = "train"\nparams = 2\ntags = 2\nsteps = 3\n'
    '[[cells]]\nworkload = "t"\nconcurrency = [2]\ncount = 30\n'
)


def given(name: str, url: StoreUrl) -> str:
    """The --store option of a URL, as MLflow writes it."""
    return f"{name}={url.mlflow}"


def tables(url: StoreUrl) -> list[str]:
    if url.path is not None:
        return [row[0] for row in sql(url, "SELECT name FROM sqlite_master WHERE type = 'table'")]
    where = "current_schema()" if "postgres" in url.mlflow else "DATABASE()"
    found = f"SELECT table_name FROM information_schema.tables WHERE table_schema = {where}"
    return sorted(row[0] for row in sql(url, found))


def digests(url: StoreUrl) -> dict[str, str]:
    """A digest of all rows of each table."""
    mark = "`" if url.store in ("mysql", "mariadb") else '"'
    return {
        table: hashlib.sha256(
            repr(sorted(map(repr, sql(url, f"SELECT * FROM {mark}{table}{mark}")))).encode()
        ).hexdigest()
        for table in tables(url)
    }


def with_data(url: StoreUrl) -> StoreUrl:
    """The store with a user's own rows in it."""

    async def work() -> None:
        async with opened(url) as (store, session):
            tracking = Tracking(store, session)
            for run_id in ("0" * 32, "7" * 32, "f" * 32):
                await new_run(tracking, run_id)
                await tracking.log_metrics(run_id, [("m", n / 3, n, n, False) for n in range(20)])
                await tracking.log_param(run_id, "p", "żółć 🜚")
                await tracking.set_tag(run_id, "t", "theirs")
            await tracking.finish_run("7" * 32, 5)

    asyncio.run(work())
    sql(url, "INSERT INTO experiment_tags SELECT 'k', 'v', experiment_id FROM experiments WHERE experiment_id > 0")
    sql(url, "INSERT INTO registered_models (workspace, name, description) VALUES ('default', 'theirs', '🜚')")
    return url


def ours_in(url: StoreUrl) -> int:
    """How many experiments of ours are in a store."""
    return int(sql(url, "SELECT COUNT(*) FROM experiments WHERE name LIKE 'trackbench-%'")[0][0])


def test_the_users_rows_stay_as_they_were(ask: Ask, url: StoreUrl, tmp_path: Path) -> None:
    with_data(url)
    before = digests(url)
    text = scenario([url.store], TRAIN, **SHORT)
    code, _, err = ask("--store", given(url.store, url), text=text)
    assert code == 0, err
    assert digests(url) == before
    (one,) = read(tmp_path / "results" / "latest").candidates
    assert one.theirs
    for path in (tmp_path / "results").rglob("*"):
        assert not url.password or path.is_dir() or url.password.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("name", slow_but("postgresql"))
def test_keep_leaves_ours_beside_theirs(ask: Ask, fresh: Callable[[str], StoreUrl], name: str) -> None:
    url = with_data(fresh(name))
    before = {table: len(sql(url, f"SELECT * FROM {table}")) for table in ("runs", "metrics", "params")}
    text = scenario([name], TRAIN, **SHORT)
    assert ask("--store", given(name, url), "--keep", text=text)[0] == 0
    assert ours_in(url) == 3  # the prefill, and one for each trial
    after = {table: len(sql(url, f"SELECT * FROM {table}")) for table in before}
    assert after["params"] > before["params"] + 5 * 5
    assert after["runs"] > before["runs"] + 5
    assert sql(url, "SELECT user_id FROM runs WHERE run_uuid = '" + "7" * 32 + "'") == [("tester",)]
    assert ask("--store", given(name, url), text=text)[0] == 0  # a second run, beside what the first one left
    assert {table: len(sql(url, f"SELECT * FROM {table}")) for table in before} == after


@pytest.mark.parametrize("name", slow_but("sqlite"))
def test_an_empty_database_gets_the_schema(ask: Ask, park: Park, tmp_path: Path, name: str) -> None:
    url = park.empty(name, tmp_path)
    code, _, err = ask("--store", given(name, url), text=scenario([name], **SHORT))
    assert code == 0, err
    assert sql(url, "SELECT version_num FROM alembic_version") == [("dc11669786a5",)]
    assert ours_in(url) == 0
    if name == "timescaledb":
        found = sql(url, "SELECT hypertable_name FROM timescaledb_information.hypertables")
        assert found == [("metrics",)]


def test_a_variable_holds_the_url(
    ask: Ask, fresh: Callable[[str], StoreUrl], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = fresh("postgresql")
    monkeypatch.setenv("TEST_STORE", url.mlflow)
    code, _, err = ask("--store", "postgresql=env:TEST_STORE", text=scenario(["postgresql"], **SHORT))
    assert code == 0, err
    assert read(tmp_path / "results" / "latest").run.command.endswith("--store postgresql=env:TEST_STORE")
    monkeypatch.delenv("TEST_STORE")
    assert "TEST_STORE is not set" in refused(ask("--store", "postgresql=env:TEST_STORE"))


@pytest.mark.parametrize("name", ["sqlite", "postgresql", "mysql"])
def test_a_foreign_database_is_refused(ask: Ask, park: Park, tmp_path: Path, name: str) -> None:
    url = park.empty(name, tmp_path)
    sql(url, "CREATE TABLE theirs (id INT)")
    line = refused(ask("--store", given(name, url)))
    assert "not MLflow's" in line
    assert tables(url) == ["theirs"]
    assert not list((tmp_path / "results").iterdir())  # a run that never began leaves no folder and no link


@pytest.mark.parametrize("name", ["sqlite", "postgresql", "mysql"])
def test_another_revision_is_refused(
    ask: Ask, fresh: Callable[[str], StoreUrl], revisions: schema.Revisions, name: str
) -> None:
    url = fresh(name)
    older = min(revisions.known - {revisions.head})
    try:
        for revision, word in ((older, "older"), ("0123456789ab", "newer")):
            sql(url, f"UPDATE alembic_version SET version_num = '{revision}'")
            line = refused(ask("--store", given(name, url)))
            assert revision in line
            assert revisions.head in line
            assert word in line
            assert ours_in(url) == 0
    finally:
        sql(url, f"UPDATE alembic_version SET version_num = '{revisions.head}'")


@pytest.mark.parametrize("name", ["postgresql", "mysql"])
def test_no_way_in(ask: Ask, fresh: Callable[[str], StoreUrl], name: str) -> None:
    url = fresh(name)
    wrong = StoreUrl(name, None, url.host, url.port, url.user, SECRET, url.database)
    nobody = StoreUrl(name, None, url.host, 1, url.user, SECRET, url.database)
    unknown = StoreUrl(name, None, "no-such-host.invalid", 1, url.user, SECRET, url.database)
    absent = replace(url, database="absent")
    for bad in (wrong, nobody, unknown, absent):
        line = refused(ask("--store", given(name, bad)))
        assert str(bad) in line
        assert SECRET not in line
        assert url.password not in line


def test_a_concurrency_that_the_server_does_not_admit(ask: Ask, fresh: Callable[[str], StoreUrl]) -> None:
    for name in ("postgresql", "mysql"):
        url = fresh(name)
        line = refused(ask("--store", given(name, url), "--concurrency", "2,400"))
        assert "400" in line
        assert "max_connections" in line
        assert ours_in(url) == 0


@pytest.mark.parametrize(
    "option",
    [
        f"postgresql=trackbench:{SECRET}@127.0.0.1/db",
        f"postgresql=postgresql:trackbench:{SECRET}@127.0.0.1/db",
        f"postgresql=oracle://trackbench:{SECRET}@127.0.0.1/db",
        f"postgresql=postgresql://trackbench:{SECRET}@127.0.0.1",
        f"postgresql=postgresql://trackbench:a@{SECRET}@127.0.0.1",
        f"postgresql=postgresql://trackbench:{SECRET}/x@127.0.0.1/db",
        f"postgresql=postgresql://trackbench:{SECRET}#x@127.0.0.1/db",
        f"postgresql=postgresql://trackbench:{SECRET}@127.0.0.1:port/db",
        f"postgresql=postgresql://trackbench:{SECRET}@127.0.0.1:99999/db",
        f"postgresql=postgresql://trackbench:{SECRET}@/db",
        f"postgresql=postgresql://:{SECRET}@127.0.0.1:1/db",
        f"postgresql=postgresql://trackbench@127.0.0.1:1/db?password={SECRET}",
        f"mysql=postgresql://trackbench:{SECRET}@127.0.0.1/db",
        f"oracle=postgresql://trackbench:{SECRET}@127.0.0.1/db",
        f"trackbench:{SECRET}@127.0.0.1",
        "sqlite=sqlite:///",
        "sqlite=sqlite:///:memory:",
        "sqlite=/tmp/file.db",
        "sqlite=sqlite:////no/such/file.db",
        "postgresql=",
    ],
)
def test_what_is_no_url_is_one_line_without_the_password(ask: Ask, option: str, tmp_path: Path) -> None:
    line = refused(ask("--store", option))
    assert SECRET not in line
    assert len(line) < 400
    assert not (tmp_path / "results").exists() or not list((tmp_path / "results").iterdir())


def test_a_password_with_every_sign(ask: Ask, fresh: Callable[[str], StoreUrl], tmp_path: Path) -> None:
    """Quoted as URLs want it, a password may hold anything; it shows nowhere, quoted or not."""
    url = fresh("postgresql")
    password = f"{SECRET}:/@#?%& *'\"\\żółć"
    sql(url, "CREATE ROLE guest LOGIN SUPERUSER PASSWORD %s", password)
    try:
        text = f"postgresql://guest:{quote(password, safe='')}@{url.host}:{url.port}/{url.database}"
        code, out, err = ask("--store", f"postgresql={text}", text=scenario(["postgresql"], **SHORT))
        assert code == 0, err
        assert SECRET not in out + err
        for path in (tmp_path / "results").rglob("*"):
            assert path.is_dir() or SECRET.encode() not in path.read_bytes(), path
    finally:
        sql(url, "DROP ROLE guest")


@pytest.fixture
def processes() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.slow
def test_a_server_that_dies_costs_its_trials_only(processes: ExitStack, public_tmp: Path, tmp_path: Path) -> None:
    """The run goes on with the other store, says what it could not measure, and can't tidy up what is gone."""
    file = tmp_path / "tiny.toml"
    file.write_text(scenario(["sqlite", "postgresql"], **{**SHORT, "rounds": 2, "duration_s": 1.0}))
    with servers.start("postgresql") as server:
        databases.create(server, "mlflow")
        words = ["run", str(file), "--out", str(tmp_path / "out" / "results"), "--store", "postgresql=env:TEST_STORE"]
        words += ["--store", "sqlite"]
        started = Command(public_tmp / "dies", tmp_path / "out", *words, TEST_STORE=server.url("mlflow"))
        command = processes.enter_context(started)
        command.until("results/latest/trials/0003-postgresql-*/ledger/0001.bin")
        server.kill()
        assert command.wait() == 3, command.stderr
        assert server.password not in command.stdout + command.stderr
    found = read(command.out / "results" / "latest")
    assert "Traceback" not in command.stderr
    assert found.run.trials_done == found.run.trials_planned == 4
    assert found.verdicts["postgresql"] == "inconclusive"
    assert {cell.candidate: cell.integrity.checked for cell in found.cells}["sqlite"]
    reasons = [note for note in found.notes if "Not measured: postgresql" in note]
    assert len(reasons) == 1
    assert not [reason for reason in reasons if "TaskGroup" in reason]  # that would be no reason


@pytest.mark.slow
def test_an_interrupted_run_takes_its_rows_away(
    fresh: Callable[[str], StoreUrl], processes: ExitStack, public_tmp: Path, tmp_path: Path
) -> None:
    """Ctrl-C in the middle of a trial, and again at once: nothing of ours stays in a database that isn't."""
    urls = {name: with_data(fresh(name)) for name in ("postgresql", "mysql", "sqlite")}
    before = {name: digests(url) for name, url in urls.items()}
    commands: dict[str, Any] = {}
    for name, url in urls.items():
        file = tmp_path / f"{name}.toml"
        file.write_text(scenario([name], rounds=20, duration_s=1.0))
        out = tmp_path / name
        words = ["run", str(file), "--out", str(out / "results"), "--store", f"{name}=env:TEST_STORE"]
        command = Command(public_tmp / f"urls-{name}", out, *words, TEST_STORE=url.mlflow)
        commands[name] = processes.enter_context(command)
    for command in commands.values():
        command.until("results/latest/trials/0001-*/ledger/0001.bin")
        command.send(signal.SIGINT)
        while not list(command.out.glob("results/latest/results.json")):  # that comes after tidying up
            command.send(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                command.wait(0.015)
    for name, command in commands.items():
        assert command.wait(60) == 130, command.stderr
        assert "Traceback" not in command.stderr
        assert digests(urls[name]) == before[name], name
