"""Two stores through MLflow's own client: equal, or each difference named; nothing written, nothing left behind."""

import asyncio
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from filled import NASTY, copy, fill
from stores import Park, slow_but, sql, wait_until

from bench.errors import BadInput
from bench.migrate import artifacts, client
from bench.migrate.catalog import reflect
from bench.migrate.client import Sample, compare_through_client
from bench.migrate.proof import ClientDifference
from bench.migrate.reader import reading
from bench.servers import tracking
from bench.stores.url import StoreUrl

pytestmark = [
    pytest.mark.servers,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # MLflow's own
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
READ = {
    "experiment": 4, "experiment by name": 4, "search of runs": 4, "run": 4, "metric history": 8,
    "metric points": 4 * 31, "registered model": 2, "model version": 4, "model alias": 2, "logged model": 1, "trace": 1,
}  # fmt: skip
Place = tuple[str, str, str, str]


@pytest.fixture(scope="module")
def written(park: Park, tmp_path_factory: pytest.TempPathFactory) -> tuple[StoreUrl, list[str]]:
    """A SQLite store with a little of everything, and the ids of its runs."""
    url = park.fresh("sqlite", tmp_path_factory.mktemp("written"))
    return url, fill(url, runs=2)


@pytest.fixture
def source(written: tuple[StoreUrl, list[str]], tmp_path: Path) -> StoreUrl:
    """A file of its own for each test."""
    return twin(written[0], tmp_path / "source.db")


def twin(url: StoreUrl, path: Path) -> StoreUrl:
    assert url.path is not None
    shutil.copyfile(url.path, path)
    return StoreUrl("sqlite", path=path)


def digest(url: StoreUrl) -> str:
    assert url.path is not None
    return hashlib.sha256(url.path.read_bytes()).hexdigest()


def rows(url: StoreUrl) -> dict[str, int]:
    mark = "`" if url.store == "mysql" else '"'
    return {name: sql(url, f"SELECT COUNT(*) FROM {mark}{name}{mark}")[0][0] for name in reflect(url).tables}


def look(source: StoreUrl, target: StoreUrl, sample: Sample | None = None) -> tuple[set[Place], dict[str, int]]:
    differences, read = asyncio.run(compare_through_client(source, target, sample))
    return {(one.what, one.where, one.source, one.target) for one in differences}, read


@pytest.mark.parametrize("name", slow_but("postgresql"))
def test_a_copy_reads_equal_and_neither_side_is_written_to(
    source: StoreUrl, fresh: Callable[[str], StoreUrl], name: str
) -> None:
    target = fresh(name)
    copy(source, target)
    for url in (source, target):  # where there is none, MLflow makes one when it opens a store
        sql(url, "DELETE FROM experiments WHERE experiment_id = 0")
    before = digest(source), rows(target)

    async def late() -> tuple[list[ClientDifference], dict[str, int]]:
        async with reading(source, target) as reader:
            await client.open_stores(reader)
            if name != "sqlite":  # where a reader stops the writers
                sql(target, "UPDATE params SET value = 'written meanwhile'")
            return await client.compare(reader)

    assert asyncio.run(late()) == ([], {**READ, "experiment": 3, "experiment by name": 3, "search of runs": 3})
    assert before == (digest(source), rows(target))


def test_what_was_changed_is_named(
    written: tuple[StoreUrl, list[str]], source: StoreUrl, fresh: Callable[[str], StoreUrl]
) -> None:
    target, (first, _, run, _) = fresh("postgresql"), written[1]
    copy(source, target)
    for statement in (
        f"UPDATE metrics SET value = 0.10000000000000002 WHERE run_uuid = '{run}' AND key = 'loss' AND step = 0",
        f"UPDATE metrics SET is_nan = false WHERE run_uuid = '{run}' AND key = 'loss' AND step = 4",
        f"UPDATE latest_metrics SET step = 31 WHERE run_uuid = '{run}' AND key = 'loss'",
        f"UPDATE params SET value = '1' WHERE run_uuid = '{run}' AND key = 'lr'",
        f"DELETE FROM tags WHERE run_uuid = '{run}' AND key = 'mlflow.runName'",
        f"UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid = '{first}'",
        "UPDATE registered_model_aliases SET version = 1 WHERE name = 'classifier'",
        "UPDATE model_versions SET current_stage = 'Archived' WHERE name = 'classifier' AND version = 1",
        "UPDATE experiments SET name = 'GONE' WHERE name = 'gone'",
        "UPDATE logged_model_params SET param_value = '4'",
        "UPDATE trace_tags SET value = 'c' WHERE key = 'a'",
        "DELETE FROM registered_model_tags WHERE name <> 'classifier'",
    ):
        sql(target, statement)
    found, _ = look(source, target)
    history = f"loss of run {run}"
    expected = {
        ("metric history", history, '"step 0, timestamp 10000: 0.1"', "none"),
        ("metric history", history, "none", '"step 0, timestamp 10000: 0.10000000000000002"'),
        ("metric history", history, '"step 4, timestamp 10004: nan"', "none"),
        ("metric history", history, "none", '"step 4, timestamp 10004: 0.0"'),
        ("run", f"{run}: data.params.lr", '"0.0"', '"1"'),
        ("run", f"{run}: data.tags.mlflow.runName", '"run 0"', "none"),
        ("run", f"{first}: info.lifecycle_stage", '"active"', '"deleted"'),
        ("model alias", "classifier@champion: version", "2", "1"),
        ("model version", "classifier 1: current_stage", '"Production"', '"Archived"'),
        ("registered model", "classifier: aliases.champion", "2", "1"),
        ("registered model", f"{NASTY[:12]}: tags.team", json.dumps(NASTY, ensure_ascii=False), "none"),
        ("experiment", "gone (3): name", '"gone"', '"GONE"'),
    }
    assert expected <= found, expected - found
    assert {one[0] for one in found} == {*READ} - {"metric points"}


def test_a_source_that_mlflow_cannot_read_is_refused(source: StoreUrl, tmp_path: Path) -> None:
    older = twin(source, tmp_path / "older.db")
    sql(older, "UPDATE alembic_version SET version_num = '17e22815139b'")
    with pytest.raises(BadInput, match=f"^{older}: MLflow's client can't read it: Detected out-of-date"):
        look(older, source)


@pytest.mark.slow
def test_a_target_that_mlflow_cannot_read_is_a_difference(source: StoreUrl, tmp_path: Path) -> None:
    older = twin(source, tmp_path / "older.db")
    sql(older, "UPDATE alembic_version SET version_num = '17e22815139b'")
    found, read = look(source, older)
    assert read == {}
    [(what, _, here, there)] = found
    assert (what, here) == ("store", "opens")
    assert there.startswith(f"{older}: MLflow's client can't read it: Detected out-of-date database schema")
    sql(older, "DROP TABLE job_locks")
    found, _ = look(source, older)
    assert [one[3] for one in found] == [f"{older}: lacks tables that MLflow's client needs"]


@pytest.mark.slow
def test_workspaces_are_read_too(source: StoreUrl, tmp_path: Path) -> None:
    for statement in (
        "INSERT INTO workspaces (name) VALUES ('team')",
        "UPDATE experiments SET workspace = 'team' WHERE name <> 'Default'",
    ):
        sql(source, statement)
    target = twin(source, tmp_path / "target.db")
    before = digest(source)
    assert look(source, target) == (set(), READ)
    sql(target, "UPDATE params SET value = 'another' WHERE key = 'lr'")
    found, _ = look(source, target, Sample(searches=0))
    assert {one[0] for one in found} == {"run"}
    assert before == digest(source)


def test_the_process_ends_with_its_owner() -> None:
    owner = """
import asyncio, sys
from pathlib import Path
from bench.migrate.proof import ClientDifference
from bench.migrate.reader import reading
from bench.stores.url import StoreUrl
async def main():
    url = StoreUrl("sqlite", path=Path("/nonexistent/store.db"))
    async with reading(url, url) as reader:
        print(reader.pid, flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", owner], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = psutil.Process(int(process.stdout.readline()))
        os.kill(process.pid, signal.SIGKILL)
        wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "end of the reader")


# Artifacts


def addressed(source: StoreUrl, runs: list[str], uris: list[str]) -> None:
    """Give these addresses to the runs, the first to the first."""
    for run, uri in zip(runs, uris, strict=True):
        sql(source, f"UPDATE runs SET artifact_uri = '{uri}' WHERE run_uuid = '{run}'")


def looked_at(url: StoreUrl, server: str | None = None) -> dict[str, artifacts.ArtifactLook]:
    async def main() -> list[artifacts.ArtifactLook]:
        async with reading(url, url) as reader:
            return await artifacts.look_at_artifacts(reader, most=10, server=server)

    return {one.what: one for one in asyncio.run(main())}


def test_which_artifacts_are_reached_from_here(
    written: tuple[StoreUrl, list[str]], source: StoreUrl, tmp_path: Path
) -> None:
    active = [written[1][0], *written[1][2:]]
    kept = tmp_path / "kept"
    (kept / "model").mkdir(parents=True)
    (kept / "model" / "MLmodel").write_text("flavors: {}\n")
    addressed(source, active, [str(kept), "mlflow-artifacts:/0/run/artifacts", "s3://user:secret@bucket/mlflow"])
    found = looked_at(source)
    there, served, cloud = (found[f"run {run}"] for run in active)
    assert (there.found, there.said) == ("fetched", "1 entries; model/MLmodel, 12 bytes")
    assert served.found == "not reachable from here"
    assert "give the server's URL" in served.said
    assert cloud.found == "not reachable from here"
    assert "secret" not in cloud.model_dump_json()
    elsewhere = found["model version classifier 1"]
    assert elsewhere.found == "nothing there"
    assert elsewhere.said.startswith("no folder /trackbench/tests/")
    assert len(found) == 3 + 4 + 1


@pytest.mark.slow
def test_a_server_passes_its_artifacts_on(
    written: tuple[StoreUrl, list[str]], source: StoreUrl, tmp_path: Path
) -> None:
    active = [written[1][0], *written[1][2:]]
    with tracking.start(source.mlflow, tracking.TrackingSettings(workers=1)) as server:
        uri = "mlflow-artifacts:/0/run/artifacts"
        addressed(source, active, [uri, "mlflow-artifacts:/0/none", "file:///nowhere"])
        file = tmp_path / "note.txt"
        file.write_text("kept")
        log = "import sys, mlflow; mlflow.store.artifact.artifact_repository_registry.get_artifact_repository("
        log += "sys.argv[1], tracking_uri=sys.argv[2]).log_artifact(sys.argv[3])"
        subprocess.run([sys.executable, "-c", log, uri, server.url, str(file)], check=True, capture_output=True)
        found = looked_at(twin(source, tmp_path / "moved.db"), server.url)
    there, nothing, elsewhere = (found[f"run {run}"] for run in active)
    assert (there.found, there.said) == ("fetched", "1 entries; note.txt, 4 bytes")
    assert (nothing.found, elsewhere.found) == ("nothing there", "nothing there")
