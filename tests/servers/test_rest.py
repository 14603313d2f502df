"""MLflow's REST API on real tracking servers: what both doors say is the same, and what is refused and how."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from stores import Park, opened, slow_but, sql

from bench.availability import Prober
from bench.errors import BadInput
from bench.identity import TrialKey
from bench.integrity import SqlRows
from bench.rest import Rest, RestFailed, site_of
from bench.rest_rows import RestRows
from bench.servers import tracking
from bench.servers.tracking import RunningTracking, TrackingSettings
from bench.site import Site
from bench.stores.url import StoreUrl

pytestmark = pytest.mark.servers
TABLES = ("experiments", "runs", "metrics", "latest_metrics", "params", "tags")
DAY_MS, START_MS = 86_400_000, 1_735_689_600_000
VALUES = [1.5, math.nan, math.inf, -math.inf, -0.0, 5e-324, 0.1 + 0.2, 1.7976931348623157e308, -3.0]
Work = Callable[[Rest], Awaitable[Any]]


@dataclass(frozen=True)
class Tracked:
    """A store and a tracking server on it."""

    url: StoreUrl
    server: RunningTracking

    def do(self, work: Work) -> Any:
        """Carry out some work with a client."""

        async def limited() -> Any:
            async with Rest(self.server.url, self.server.headers) as rest:
                return await asyncio.wait_for(work(rest), 120)

        return asyncio.run(limited())


@pytest.fixture(scope="module", params=slow_but("sqlite"))
def tracked(request: pytest.FixtureRequest, park: Park, public_tmp: Path) -> Iterator[Tracked]:
    """A tracking server on each store in turn."""
    url = park.fresh(request.param, public_tmp)
    with tracking.start(url.mlflow, TrackingSettings(workers=1)) as server:
        yield Tracked(url, server)


@pytest.fixture(scope="module")
def locked_in(park: Park, public_tmp: Path) -> Iterator[RunningTracking]:
    """A tracking server with authentication."""
    url = park.fresh("sqlite", public_tmp)
    with tracking.start(url.mlflow, TrackingSettings(workers=1, authentication=True)) as server:
        yield server


async def all_of(pages: AsyncIterator[Sequence[Any]]) -> list[Any]:
    return [one async for page in pages for one in page]


def plain(row: Sequence[Any], table: str) -> tuple[Any, ...]:
    """A row with its mark for NaN as a bool, and without a sign of zero (SQLite keeps none)."""
    values = tuple(row)
    return (*values[:4], values[4] + 0.0, bool(values[5])) if table.endswith("metrics") else values


def test_both_doors_give_the_same_rows_in_the_same_order(tracked: Tracked):
    key = TrialKey.of("doors", 1, 1)

    async def work(rest: Rest) -> None:
        trial = await rest.create_experiment("a trial")
        own = await rest.create_experiment(key.name(0, 0))
        for cycle, experiment in ((1, trial), (2, trial), (3, own)):
            run = await rest.create_run(experiment, key.name(0, cycle), START_MS + cycle)
            metrics = [(f"k{n % 3}", value, START_MS + n * DAY_MS, n) for n, value in enumerate(VALUES)]
            await rest.log_batch(run, metrics, [("p", "żółć 試験 🜚"), ("q", "")], [("t", "x" * 4000)])
        answer = await rest._client.post(
            f"{rest.url}/api/2.0/mlflow/runs/update",
            json={"run_id": run, "status": "FINISHED", "end_time": START_MS + 999},
        )
        assert answer.status_code == 200
        rows = RestRows(rest, [trial], "trackbench-" + key.prefix, page=1, history_page=2)
        async with opened(tracked.url) as (_, session):
            by_sql = SqlRows(session, key, by_name=True)
            for table in TABLES:
                ours = [plain(row, table) for row in await all_of(getattr(rows, table)())]
                theirs = [plain(row, table) for row in await all_of(getattr(by_sql, table)())]
                assert len(ours) > 0
                assert ours == theirs if table == "metrics" else sorted(ours) == sorted(theirs), table

    tracked.do(work)


def test_paging_finds_everything_once(tracked: Tracked):
    async def work(rest: Rest) -> None:
        experiment = await rest.create_experiment("pages")
        runs = [await rest.create_run(experiment, f"page {n}", START_MS) for n in range(7)]
        params = [(f"p{n}", str(n)) for n in range(250)]
        await rest.log_batch(runs[0], [("m", float(n), START_MS, n) for n in range(1003)], params)
        assert len((await rest.get_run(runs[0]))["data"]["params"]) == 250
        for page in (1, 3, 7, 500):
            found = [run["info"]["run_id"] for run in await all_of(rest.search_runs([experiment], page))]
            assert sorted(found) == sorted(runs)
        for page in (100, 1003, 25_000):
            history = await all_of(rest.metric_history(runs[0], "m", page))
            assert sorted(int(one["step"]) for one in history) == list(range(1003))
        assert await all_of(rest.search_runs([])) == []
        for n in range(5):
            await rest.create_experiment(f"pages-{n}")
        await rest.delete_experiment(experiment)
        named = [one["name"] for one in await all_of(rest.search_experiments("pages-", 2))]
        assert sorted(named) == [f"pages-{n}" for n in range(5)]
        stages = {one["name"]: one["lifecycle_stage"] for one in await all_of(rest.search_experiments("pages"))}
        assert stages["pages"] == "deleted"
        assert len(await all_of(rest.search_runs([experiment]))) == 7

    tracked.do(work)


def test_traces_are_found_and_read(tracked: Tracked):
    async def work(rest: Rest) -> None:
        experiment = await rest.create_experiment("traces")
        trace = f"{1:032x}"
        span = {"traceId": trace, "spanId": f"{2:016x}", "name": "root",
                "startTimeUnixNano": str(START_MS * 10**6), "endTimeUnixNano": str((START_MS + 5) * 10**6)}  # fmt: skip
        body = {"resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": [{"scope": {}, "spans": [span]}]}]}
        async with httpx.AsyncClient() as client:
            headers = {"x-mlflow-experiment-id": experiment}
            assert (await client.post(f"{rest.url}/v1/traces", json=body, headers=headers)).status_code == 200
        (info,) = await all_of(rest.search_traces([experiment], 1))
        assert info["trace_id"] == f"tr-{trace}"
        found = await rest.get_trace(info["trace_id"])
        assert [one["name"] for one in found["spans"]] == ["root"]

    tracked.do(work)


def test_it_knows_its_version_and_our_endpoints(tracked: Tracked):
    async def work(rest: Rest) -> str:
        return await rest.identify(traces=True)

    assert tracked.do(work) == "3.17.2"


def test_a_refusal_tells_mlflows_code(tracked: Tracked):
    async def work(rest: Rest) -> None:
        with pytest.raises(RestFailed, match="RESOURCE_DOES_NOT_EXIST") as caught:
            await rest.get_run("f" * 32)
        assert (caught.value.status, caught.value.code) == (404, "RESOURCE_DOES_NOT_EXIST")
        await rest.create_experiment("once")
        with pytest.raises(RestFailed) as caught:
            await rest.create_experiment("once")
        assert caught.value.code == "RESOURCE_ALREADY_EXISTS"

    tracked.do(work)


def test_probes_find_a_server_well_and_then_gone(park: Park, public_tmp: Path):
    with tracking.start(park.fresh("sqlite", public_tmp).mlflow, TrackingSettings(workers=1)) as server:

        async def work() -> None:
            async with Prober(server.site, 0) as prober:
                await asyncio.sleep(1.1)
            well = prober.result()
            assert well.share == 1.0
            assert well.search.ok == well.n >= 4
            await asyncio.to_thread(server.kill)
            async with Prober(server.site) as prober:
                await asyncio.sleep(0.3)
            assert prober.result().share == 0.0

        asyncio.run(work())


# -- who is refused, and how ----------------------------------------------------------------------------------


def refusal(site: Site, traces: bool = False) -> str:
    """The one line with which a server is refused."""

    async def work() -> None:
        async with Rest(site.url, site.headers) as rest:
            await rest.identify(traces)

    with pytest.raises(BadInput) as caught:
        asyncio.run(work())
    message = str(caught.value)
    assert message.startswith(site.url)
    assert "\n" not in message
    return message


@pytest.fixture
def other_server() -> Iterator[Callable[..., Site]]:
    """Serves what is given for each path (status, type, body), and 404 for all else."""
    running: list[HTTPServer] = []

    def serve(**paths: tuple[int, str, str]) -> Site:
        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                name = self.path.strip("/").replace("/", "_").replace("-", "_").replace(".", "")
                status, kind, body = paths.get(name, paths.get("everything", (404, "text/html", "<h1>no</h1>")))
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            do_GET = do_POST = do_PUT = answer  # noqa: N815 (their names)

            def log_message(self, *_: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        running.append(server)
        Thread(target=server.serve_forever, daemon=True).start()
        return Site(f"http://127.0.0.1:{server.server_port}")

    yield serve
    for server in running:
        server.shutdown()
        server.server_close()


def test_nobody_listens():
    assert "no tracking server answers" in refusal(Site("http://127.0.0.1:1"))


def test_a_host_that_does_not_exist():
    assert "no tracking server answers" in refusal(Site("http://tracking.invalid"))


def test_another_kind_of_server(other_server: Callable[..., Site]):
    assert "not an MLflow tracking server" in refusal(other_server())
    page = (200, "text/html", "<h1>It works!</h1>")
    assert "not an MLflow tracking server" in refusal(other_server(everything=page))


def test_a_database_behind_the_port(park: Park):
    server = park.server("postgresql")
    assert "no tracking server answers" in refusal(Site(f"http://127.0.0.1:{server.port}"))


def test_an_mlflow_too_old(other_server: Callable[..., Site]):
    old = {
        "version": (200, "text/html", "1.2.0"),
        "api_20_mlflow_experiments_search": (404, "text/html", "<h1>Not Found</h1>"),
    }
    message = refusal(other_server(**old))
    assert "MLflow 1.2.0 has no /api/2.0/mlflow/experiments/search" in message
    there = (405, "text/html", "no such method")
    some = {
        "version": (200, "text/html", "2.9.2"),
        "api_20_mlflow_experiments_search": (200, "application/json", "{}"),
        "v1_traces": (404, "text/html", "<h1>Not Found</h1>"),
        "api_30_mlflow_traces": (404, "text/html", "<h1>Not Found</h1>"),
        "everything": there,
    }
    message = refusal(other_server(**some), traces=True)
    assert "MLflow 2.9.2 has no /api/3.0/mlflow/traces" in message


def test_an_mlflow_whose_store_is_broken(park: Park, public_tmp: Path):
    url = park.fresh("sqlite", public_tmp)
    with tracking.start(url.mlflow, TrackingSettings(workers=1)) as server:
        sql(url, "ALTER TABLE experiments RENAME TO experiments_away")
        assert "can't use its store" in refusal(server.site)


def test_a_login_that_is_missing_or_wrong(locked_in: RunningTracking):
    assert "wants a login" in refusal(Site(locked_in.url))
    wrong = site_of(locked_in.url.replace("//", "//trackbench:not-the-passw0rd@"), {})
    message = refusal(wrong)
    assert "refuses this login" in message
    assert "not-the-passw0rd" not in message


def test_the_right_login_is_admitted(locked_in: RunningTracking):
    async def work() -> str:
        async with Rest(locked_in.url, locked_in.headers) as rest:
            experiment = await rest.create_experiment("mine")
            run = await rest.create_run(experiment, "mine", START_MS)
            assert (await rest.get_run(run))["info"]["experiment_id"] == experiment
            return await rest.identify(traces=True)

    assert asyncio.run(work()) == "3.17.2"


def test_a_host_that_the_server_does_not_know(park: Park, public_tmp: Path):
    with tracking.start(park.fresh("sqlite", public_tmp).mlflow, TrackingSettings(workers=1)) as server:

        async def work() -> None:
            async with Rest(server.url, {"Host": "evil.example"}) as rest:
                await rest.identify()

        with pytest.raises(BadInput, match="refuses the Host header"):
            asyncio.run(work())


# -- what a user gives ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "url", "header"),
    [
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000", None),
        ("http://127.0.0.1:5000/", "http://127.0.0.1:5000", None),
        ("https://me:p%40ss@tracking.example/mlflow/", "https://tracking.example/mlflow", "Basic bWU6cEBzcw=="),
        ("http://[::1]:5000", "http://[::1]:5000", None),
    ],
)
def test_urls(text: str, url: str, header: str | None):
    site = site_of(text, {})
    assert (site.url, site.headers.get("Authorization"), site.counted) == (url, header, False)
    assert "ss@" not in repr(site)


def test_mlflows_own_variables():
    both = {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "p@ss", "MLFLOW_TRACKING_TOKEN": "t"}
    assert site_of("http://h", both).headers == {"Authorization": "Basic bWU6cEBzcw=="}
    assert site_of("http://h", {"MLFLOW_TRACKING_TOKEN": "t"}).headers == {"Authorization": "Bearer t"}
    with pytest.raises(BadInput, match="MLFLOW_TRACKING_PASSWORD"):
        site_of("http://me@h", {})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "127.0.0.1:5000",
        "ftp://x",
        "http://",
        "http://h:port",
        "http://h?x=1",
        "postgresql://a:secret@h/d",
        "me:secret@host",
        "http://a:sec/ret@h:secret",
    ],
)
def test_what_is_no_tracking_url(text: str):
    with pytest.raises(BadInput) as caught:
        site_of(text, {})
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
