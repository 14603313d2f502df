"""`trackbench run --tracking NAME=URL`: somebody's own MLflow server is measured, tidied up after, or refused."""

import asyncio
import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from commands import Ask, refused
from fleet import PREFILL, USERS, counts, disturbed, scenario
from stores import Park, sql

from bench import run as runs
from bench import stands
from bench.identity import TrialKey, run_name
from bench.job import Job
from bench.results import read
from bench.scenario import CandidateSpec
from bench.servers import places, tracking
from bench.servers.tracking import RunningTracking, TrackingSettings
from bench.site import Site
from bench.stand import Access
from bench.stores.url import StoreUrl

pytestmark = [pytest.mark.servers, pytest.mark.usefixtures("quick_start")]
SECRET = "Geh3im"
DIRECT = '[workloads.direct]\nkind = "log_metric"\n[[cells]]\nworkload = "direct"\nconcurrency = [2]\ncount = 20\n'
TRAIN = '[workloads.train]\nkind = "train"\nsteps = 2\n[[cells]]\nworkload = "train"\nconcurrency = [2]\n'


@dataclass(frozen=True)
class Theirs:
    """Somebody's MLflow server, its store, and an experiment of theirs with a run in it."""

    url: StoreUrl
    server: RunningTracking
    run: str

    @property
    def option(self) -> str:
        return f"postgresql={self.server.url}"

    def post(self, path: str, **body: object) -> Any:
        answer = httpx.post(f"{self.server.url}/api/2.0/mlflow/{path}", json=body, timeout=60, trust_env=False)
        assert answer.status_code == httpx.codes.OK, answer.text
        return answer.json()

    def active(self) -> dict[str, str]:
        """The experiments that are not in MLflow's trash: names by id."""
        found = self.post("experiments/search", max_results=1000)["experiments"]
        return {one["experiment_id"]: one["name"] for one in found}

    def active_runs(self) -> list[str]:
        found = sql(self.url, "SELECT run_uuid FROM runs WHERE lifecycle_stage = 'active'")
        return [row[0] for row in found]


@pytest.fixture(scope="module")
def theirs(park: Park, public_tmp: Path) -> Iterator[Theirs]:
    url = park.fresh("postgresql", public_tmp)
    with tracking.start(url.mlflow, TrackingSettings(workers=1), counted=False) as server:
        made = Theirs(url, server, "")
        experiment = made.post("experiments/create", name="theirs")["experiment_id"]
        run = made.post("runs/create", experiment_id=experiment, run_name="theirs", start_time=1)["run"]
        yield Theirs(url, server, run["info"]["run_id"])


@pytest.fixture
def unchanged(theirs: Theirs) -> Iterator[Theirs]:
    """Theirs, and afterwards nothing of ours is active there."""
    yield theirs
    assert sorted(theirs.active().values()) == ["Default", "theirs"]
    assert theirs.active_runs() == [theirs.run]


def test_a_tracking_server_alone(ask: Ask, unchanged: Theirs, tmp_path: Path) -> None:
    """Everything goes over REST: one door, no counter of the database, no direct cell."""
    referee = '[[criteria]]\nname = "deadlocks"\nexpression = "referee.deadlocks == 0"\ngating = false\n'
    text = scenario(["postgresql", "sqlite"], ["train", "mixed"], DIRECT + referee, count=13)
    code, out, err = ask("--tracking", unchanged.option, text=text)
    assert code == 0, err + out
    found = read(tmp_path / "results" / "latest")
    (one,) = found.candidates
    assert (one.name, one.theirs, one.schema_current, one.durable) == ("postgresql", True, None, None)
    assert one.source == "the user's tracking server"
    assert "3.17.2" in one.tracking["server"]
    assert {(cell.driver, cell.workload) for cell in found.cells} == {("http", "train"), ("http", "mixed")}
    for cell in found.cells:
        assert (cell.first_attempt_rate, cell.rounds_lost, cell.server_errors) == (1.0, 0, None)
        assert not any(value is not None for value in cell.referee.values())
        assert cell.availability is not None
        assert (cell.availability.share or 0) > 0
        assert [door.checked for door in cell.doors] == [True] * len(cell.doors)
        assert [counts(door) for door in cell.doors] == [{}] * len(cell.doors)
        assert cell.integrity_rest is None  # the only door is the first
        assert cell.integrity.door == "rest"
    assert sum(cell.integrity_prefill is not None for cell in found.cells) == 1
    assert {cell.runs_unfinished for cell in found.cells} == {0, None}
    assert [item.outcome for item in found.criteria if item.name == "deadlocks"] == ["inconclusive"] * 2
    assert [note for note in found.notes if "Not run, since only a tracking server was given: direct direct" in note]


def test_a_store_and_the_server_in_front_of_it(ask: Ask, unchanged: Theirs, tmp_path: Path) -> None:
    """Both doors, direct cells, and rows are removed for good."""
    before = [sql(unchanged.url, f"SELECT COUNT(*) FROM {table}") for table in ("runs", "experiments", "metrics")]
    options = ["--store", f"postgresql={unchanged.url.mlflow}", "--tracking", unchanged.option]
    code, out, err = ask(*options, text=scenario(["postgresql"], ["train"], DIRECT, count=13))
    assert code == 0, err + out
    found = read(tmp_path / "results" / "latest")
    http, direct_cell = found.cells
    assert (http.driver, direct_cell.driver) == ("http", "direct")
    assert (http.integrity.door, direct_cell.integrity_rest) == ("sql", None)
    assert http.integrity_rest is not None
    assert (http.integrity_rest.attempted, counts(http.integrity_rest)) == (http.integrity.attempted, {})
    assert (http.referee["commits"] or 0) > 0
    assert http.server_errors is None  # a server that isn't ours names none
    assert unchanged.url.password not in out + err
    after = [sql(unchanged.url, f"SELECT COUNT(*) FROM {table}") for table in ("runs", "experiments", "metrics")]
    assert after == before


def test_what_is_lost_behind_a_tracking_server_is_exit_code_4(
    ask: Ask, unchanged: Theirs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A metric of ours vanishes; without a database to ask, REST must tell."""

    def lose(job: Job) -> None:
        names = "SELECT run_uuid FROM runs WHERE name LIKE %s"
        gone = f"DELETE FROM metrics WHERE step = 1 AND key = 'metric0000' AND run_uuid IN ({names})"
        sql(unchanged.url, gone, run_name(job.key.prefix) + "%")

    monkeypatch.setattr(runs, "run", partial(runs.run, start=disturbed(lose)))
    code, out, err = ask("--tracking", unchanged.option, text=scenario(["postgresql"], ["train"], count=13))
    assert code == 4, err + out
    found = read(tmp_path / "results" / "latest")
    assert (found.exit_code, found.verdict) == (4, "fail")
    assert counts(found.cells[0].integrity) == {"lost": USERS}
    assert "lost" in out


def test_a_criterion_that_fails_is_exit_code_1(ask: Ask, unchanged: Theirs, tmp_path: Path) -> None:
    more = '[[criteria]]\nname = "faster than light"\nexpression = "max_ms <= 0.001"\n'
    code, out, err = ask("--tracking", unchanged.option, text=scenario(["postgresql"], ["log_batch"], more))
    assert code == 1, err + out
    assert "faster than light" in read(tmp_path / "results" / "latest").reasons["postgresql"]


def test_what_a_broken_removal_left_goes_with_the_next(unchanged: Theirs, tmp_path: Path) -> None:
    """Some experiments of a trial are in the trash, and then the server was away: the rest must follow them."""
    key = TrialKey.of("removal", 1, 1)

    async def work() -> None:
        access = Access(site=Site(unchanged.server.url), http=True)
        spec = CandidateSpec.model_validate({"store": "postgresql"})
        async with stands.stand("c", spec, access, tmp_path, print) as ready:
            await ready.create_experiment("trackbench-removal-1", key.prefix)
            made = [unchanged.post("experiments/create", name=key.name(user, 0)) for user in range(3)]
            unchanged.post("experiments/delete", experiment_id=made[0]["experiment_id"])
            await ready.remove_all()
            assert not ready.ours

    asyncio.run(work())


def test_traces_alone_are_refused(ask: Ask, unchanged: Theirs) -> None:
    """Their rows are compared by SQL only: without the store nothing could be proved."""
    code, _, err = ask("--tracking", unchanged.option, text=scenario(["postgresql"], ["traces"]))
    assert code == 2, err
    assert "give --store postgresql=URL as well" in err
    assert len(err.strip().splitlines()) == 1


def test_keep_leaves_the_runs_where_they_are(ask: Ask, theirs: Theirs) -> None:
    code, out, err = ask("--tracking", theirs.option, "--keep", text=scenario(["postgresql"], ["train"], count=13))
    assert code == 0, err + out
    ours = {number: name for number, name in theirs.active().items() if name.startswith("trackbench-")}
    assert len(ours) == 1 + 1 + 2  # the prefill's, the trial's, one for each run
    assert len(theirs.active_runs()) == 1 + PREFILL.runs + 2
    for number in ours:
        theirs.post("experiments/delete", experiment_id=number)


# What is refused: one line, exit code 2, and no folder is left.


@contextmanager
def answering(status: int, body: bytes, kind: str = "text/html") -> Iterator[str]:
    """A web server on loopback that says the same to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Not on the test's stderr."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def refusal(ask: Ask, tmp_path: Path) -> Callable[..., str]:
    """The line with which options are refused, after a look at what all refusals have in common."""

    def line(*options: str, text: str = "") -> str:
        said = refused(ask(*options, text=text or scenario(["sqlite", "postgresql"], ["train"])))
        assert SECRET not in said
        assert len(said) < 400
        results = tmp_path / "results"
        assert not results.exists() or not list(results.iterdir())
        return said

    return line


def test_nobody_listens(refusal: Callable[..., str]) -> None:
    url = f"http://127.0.0.1:{places.free_port()}"
    said = refusal("--tracking", f"postgresql={url}")
    assert url in said
    assert "no tracking server answers" in said
    assert "no-such-host.invalid" in refusal("--tracking", "postgresql=http://no-such-host.invalid:5000")


@pytest.mark.parametrize(("status", "body"), [(200, b"<html>Grafana</html>"), (404, b"nothing here"), (500, b"{}")])
def test_it_is_not_mlflow(refusal: Callable[..., str], status: int, body: bytes) -> None:
    with answering(status, body) as url:
        said = refusal("--tracking", f"sqlite={url}")
    assert url in said
    assert "not an MLflow tracking server" in said


def test_it_wants_a_login(refusal: Callable[..., str]) -> None:
    with answering(401, b"You are not authenticated.") as url:
        assert "MLFLOW_TRACKING_USERNAME" in refusal("--tracking", f"postgresql={url}")
        wrong = url.replace("//", f"//someone:{SECRET}@")
        said = refusal("--tracking", f"postgresql={wrong}")
    assert "refuses this login" in said


def test_a_scenario_without_http_cells(refusal: Callable[..., str], theirs: Theirs) -> None:
    text = f'title = "direct"\n[candidates.postgresql]\nstore = "postgresql"\n{TRAIN}'
    said = refusal("--tracking", theirs.option, text=text)
    assert "no HTTP cell" in said
    assert "--store NAME=URL" in said


def test_a_server_in_front_of_another_store(
    refusal: Callable[..., str], theirs: Theirs, park: Park, tmp_path: Path
) -> None:
    """Users would write into experiments of somebody else's."""
    other = park.fresh("postgresql", tmp_path)
    said = refusal("--store", f"postgresql={other.mlflow}", "--tracking", theirs.option)
    assert theirs.server.url in said
    assert sql(other, "SELECT COUNT(*) FROM runs") == sql(other, "SELECT COUNT(*) FROM metrics") == [(0,)]


def test_a_variable_holds_the_address(refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_SITE", raising=False)
    assert "TEST_SITE is not set" in refusal("--tracking", "postgresql=env:TEST_SITE")
    url = f"http://someone:{SECRET}@127.0.0.1:{places.free_port()}"
    monkeypatch.setenv("TEST_SITE", url)
    assert "no tracking server answers" in refusal("--tracking", "postgresql=env:TEST_SITE")


@pytest.mark.parametrize(
    "option",
    [
        "postgresql",
        "postgresql=",
        "http://127.0.0.1:5000",
        "oracle=http://127.0.0.1:5000",
        f"postgresql=postgresql://trackbench:{SECRET}@127.0.0.1/db",
        f"postgresql=trackbench:{SECRET}@127.0.0.1:5000",
        f"postgresql=http://someone:{SECRET}@127.0.0.1:port",
        f"postgresql=http://someone:{SECRET}@127.0.0.1:5000/?token={SECRET}",
        f"postgresql=http://someone:{SECRET}@",
        f"postgresql=http://someone:{SECRET}/x@127.0.0.1:5000",
        f"postgresql=file:///{SECRET}",
    ],
)
def test_what_is_no_tracking_url_is_one_line(refusal: Callable[..., str], option: str) -> None:
    assert refusal("--tracking", option)


def test_the_same_store_twice(refusal: Callable[..., str], theirs: Theirs) -> None:
    assert "twice" in refusal("--tracking", theirs.option, "--tracking", theirs.option)


@pytest.mark.slow
def test_a_server_with_logins(ask: Ask, refusal: Callable[..., str], park: Park, tmp_path: Path) -> None:
    """MLflow's own basic authentication: no login, a wrong one, and the right one, which shows nowhere."""
    url = park.fresh("sqlite", tmp_path)
    with tracking.start(url.mlflow, TrackingSettings(workers=1, authentication=True)) as server:
        at = server.url.removeprefix("http://")
        assert "wants a login" in refusal("--tracking", f"sqlite={server.url}")
        assert "refuses this login" in refusal("--tracking", f"sqlite=http://trackbench:{SECRET}@{at}")
        login = server.headers["Authorization"].removeprefix("Basic ")
        user, _, word = base64.b64decode(login).decode().partition(":")
        code, out, err = ask(
            "--tracking", f"sqlite=http://{user}:{word}@{at}", text=scenario(["sqlite"], ["log_metric"], count=2)
        )
        assert code in (0, 3), err + out  # each login costs it 0.1 s of CPU: a busy machine can't keep up
    for path in (tmp_path / "results").rglob("*"):
        assert path.is_dir() or not [one for one in (word, login) if one.encode() in path.read_bytes()], path
