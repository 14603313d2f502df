"""MLflow's REST API for set-up, probes and read-back; load never goes through here.

`Rest` is a small client whose reads are tried again and whose writes never are. `site_of` reads what a user gives as
a tracking URL. `bench.rest_rows` turns answers into the rows that integrity audits want.
"""

import asyncio
import base64
import json
import math
import os
import re
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit, urlunsplit

import httpx

from bench.errors import BadInput
from bench.site import Site

API = "/api/2.0/mlflow"
TRACES = "/api/3.0/mlflow/traces"
CONCURRENCY = 8  # requests under way at once, of one client
TIMEOUT_S = 60.0
PAGE = 500  # runs or experiments an answer
HISTORY_PAGE = 25_000  # metrics an answer: MLflow pages by OFFSET, so small pages of a long history cost dearly
# A request's metrics, and its params or tags: MLflow's limits are 100 of those, and 1,000 of all together.
_METRICS, _TEXTS = 800, 100
_TRACE_PAGE = 500  # MLflow's limit
_RETRIES_S = (0.5, 1.0, 2.0)
_BUSY = frozenset({429, 502, 503, 504})
_LOCK_WAIT = 500
_VERSION = re.compile(r"\d+\.\d+\S*")
# What load and set-up call, each with a method that its route does not have: it then answers 405, and changes nothing.
_NEEDED = (
    ("PUT", f"{API}/experiments/create"),
    ("PUT", f"{API}/experiments/search"),
    ("PUT", f"{API}/runs/create"),
    ("PUT", f"{API}/runs/search"),
    ("PUT", f"{API}/runs/get"),
    ("PUT", f"{API}/runs/update"),
    ("PUT", f"{API}/runs/log-metric"),
    ("PUT", f"{API}/runs/log-batch"),
    ("PUT", f"{API}/runs/log-parameter"),
    ("PUT", f"{API}/runs/set-tag"),
    ("PUT", f"{API}/metrics/get-history"),
)
_NEEDED_FOR_TRACES = (("PUT", TRACES), ("PUT", f"{TRACES}/search"), ("POST", "/v1/traces"))  # the last wants a header


class RestFailed(Exception):
    """A request was refused or never answered. ``status`` is 0 where there was no answer; ``code`` is MLflow's."""

    def __init__(self, what: str, status: int = 0, code: str = "") -> None:
        super().__init__(what)
        self.status = status
        self.code = code


class Rest:
    """A client of one tracking server. Use it as an async context manager."""

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        self.url = url.rstrip("/")
        self._client = httpx.AsyncClient(
            headers=dict(headers or {}),
            timeout=TIMEOUT_S,
            trust_env=False,  # neither a proxy nor another login from a .netrc file
            verify=ssl.create_default_context() if self.url.startswith("https:") else True,
        )
        self._slots = asyncio.Semaphore(CONCURRENCY)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End its connections."""
        await self._client.aclose()

    # -- who answers there --------------------------------------------------------------------------------

    async def identify(self, traces: bool = False) -> str:
        """MLflow's version, once it is sure that we may use this server; ``traces`` says that we need those too.

        Raises:
            BadInput: nothing listens, it is not MLflow, it is too old, it refuses the login or our Host header.
        """
        try:
            told = await self._client.get(f"{self.url}/version")
            self._check_admitted(told)
            found = await self._client.post(f"{self.url}{API}/experiments/search", json={"max_results": 1})
            self._check_admitted(found)
        except httpx.TimeoutException:
            raise BadInput(
                f"{self.url}: no answer within {TIMEOUT_S:.0f} s; is it an MLflow tracking server?"
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:
            raise BadInput(
                f"{self.url}: no tracking server answers ({_plain(error)}); start it or mend the URL"
            ) from None
        version = told.text.strip() if told.status_code == httpx.codes.OK else ""
        is_known = _VERSION.fullmatch(version) is not None
        if found.status_code == httpx.codes.OK and _is_json(found):
            await self._check_endpoints(version if is_known else "of unknown version", traces)
            return version if is_known else "unknown"
        if is_known and found.status_code in (404, 405):
            raise self._too_old(version, f"{API}/experiments/search")
        if found.status_code >= _LOCK_WAIT and _error_code(found):
            raise BadInput(f"{self.url}: MLflow {version} can't use its store: {_message(found)}; see its log")
        raise BadInput(f"{self.url}: not an MLflow tracking server ({_answer(found)}); mend the URL")

    def _check_admitted(self, answer: httpx.Response) -> None:
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            given = "refuses this login" if "authorization" in self._client.headers else "wants a login"
            raise BadInput(
                f"{self.url}: the tracking server {given}; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
        if answer.status_code != httpx.codes.FORBIDDEN:
            return
        if "host" in answer.text.lower():
            host = urlsplit(self.url).netloc
            raise BadInput(
                f"{self.url}: the tracking server refuses the Host header {host!r}; "
                f"start it with --allowed-hosts {host}, or use a name that it allows"
            )
        raise BadInput(f"{self.url}: the tracking server forbids it to this login; give one that may write experiments")

    async def _check_endpoints(self, version: str, traces: bool) -> None:
        needed = (*_NEEDED, *(_NEEDED_FOR_TRACES if traces else ()))
        answers = await asyncio.gather(*(self._send(method, path, {}, tries=1) for method, path in needed))
        for (_, path), answer in zip(needed, answers, strict=True):
            if answer.status_code == httpx.codes.NOT_FOUND and not _error_code(answer):
                raise self._too_old(version, path)

    def _too_old(self, version: str, path: str) -> BadInput:
        return BadInput(f"{self.url}: MLflow {version} has no {path}, which this workload needs; use a newer MLflow")

    # -- set-up -------------------------------------------------------------------------------------------

    async def create_experiment(self, name: str) -> str:
        """The id of a new experiment."""
        return str((await self._write("experiments/create", name=name))["experiment_id"])

    async def create_run(self, experiment_id: str | int, name: str, start_time: int, user: str = "trackbench") -> str:
        """The id of a new run; ``start_time`` in ms."""
        made = await self._write(
            "runs/create", experiment_id=str(experiment_id), run_name=name, start_time=start_time, user_id=user
        )
        return str(made["run"]["info"]["run_id"])

    async def log_batch(
        self,
        run_id: str,
        metrics: Sequence[tuple[str, float, int, int]] = (),
        params: Sequence[tuple[str, str]] = (),
        tags: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Log a run's data in as few batches as MLflow allows; a metric is (key, value, timestamp in ms, step)."""
        texts = [[{"key": key, "value": value} for key, value in some] for some in (params, tags)]
        points = [
            {"key": key, "value": _number(value), "timestamp": timestamp, "step": step}
            for key, value, timestamp, step in metrics
        ]
        batches = max(-(-len(points) // _METRICS), *(-(-len(some) // _TEXTS) for some in texts))
        for n in range(batches):
            few_params, few_tags = (some[n * _TEXTS : (n + 1) * _TEXTS] for some in texts)
            few_metrics = points[n * _METRICS : (n + 1) * _METRICS]
            await self._write("runs/log-batch", run_id=run_id, metrics=few_metrics, params=few_params, tags=few_tags)

    async def delete_experiment(self, experiment_id: str | int) -> None:
        """Mark an experiment and its runs as deleted: MLflow's REST API can't do more."""
        await self._write("experiments/delete", experiment_id=str(experiment_id))

    # -- read-back ----------------------------------------------------------------------------------------

    async def get_run(self, run_id: str) -> dict[str, Any]:
        """A run: ``info``, and ``data`` with params, tags and latest metrics."""
        run: dict[str, Any] = (await self._read("GET", f"{API}/runs/get", run_id=run_id))["run"]
        return run

    async def search_runs(
        self, experiment_ids: Sequence[str | int], page: int = PAGE
    ) -> AsyncIterator[list[dict[str, Any]]]:
        """All runs of these experiments, deleted ones too, a page at a time; a run as `get_run` gives it."""
        ids = [str(one) for one in experiment_ids]
        if not ids:  # MLflow would take none for all
            return
        async for answer in self._pages(
            "POST", f"{API}/runs/search", experiment_ids=ids, run_view_type="ALL", max_results=page
        ):
            yield answer.get("runs", [])

    async def search_experiments(self, prefix: str = "", page: int = PAGE) -> AsyncIterator[list[dict[str, Any]]]:
        """All experiments whose names begin so, deleted ones too, a page at a time."""
        wanted = {"filter": f"name LIKE '{prefix}%'"} if prefix else {}
        async for answer in self._pages(
            "POST", f"{API}/experiments/search", view_type="ALL", max_results=page, **wanted
        ):
            # LIKE has wildcards of its own, and MySQL's does not mind the case.
            yield [one for one in answer.get("experiments", []) if one["name"].startswith(prefix)]

    async def metric_history(
        self, run_id: str, key: str, page: int = HISTORY_PAGE
    ) -> AsyncIterator[list[dict[str, Any]]]:
        """The metrics of one key of a run (key, value, timestamp, step), a page at a time, by timestamp."""
        async for answer in self._pages(
            "GET", f"{API}/metrics/get-history", run_id=run_id, metric_key=key, max_results=page
        ):
            yield answer.get("metrics", [])

    async def search_traces(
        self, experiment_ids: Sequence[str | int], page: int = _TRACE_PAGE
    ) -> AsyncIterator[list[dict[str, Any]]]:
        """Infos of all traces of these experiments, a page at a time."""
        places = [
            {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": str(one)}} for one in experiment_ids
        ]
        async for answer in self._pages("POST", f"{TRACES}/search", locations=places, max_results=page):
            yield answer.get("traces", [])

    async def get_trace(self, trace_id: str) -> dict[str, Any]:
        """A trace: ``trace_info`` and ``spans``."""
        trace: dict[str, Any] = (await self._read("GET", f"{TRACES}/get", trace_id=trace_id))["trace"]
        return trace

    # -- requests -----------------------------------------------------------------------------------------

    async def _pages(self, method: str, path: str, **wanted: Any) -> AsyncIterator[dict[str, Any]]:
        token = ""
        while True:
            answer = await self._read(method, path, **wanted, **({"page_token": token} if token else {}))
            yield answer
            following = str(answer.get("next_page_token") or "")
            if not following:
                return
            if following == token:
                raise RestFailed(f"{self.url}{path}: the page after {token!r} is itself")
            token = following

    async def _write(self, path: str, **values: Any) -> dict[str, Any]:
        return self._content(await self._send("POST", f"{API}/{path}", values, tries=1))

    async def _read(self, method: str, path: str, **values: Any) -> dict[str, Any]:
        return self._content(await self._send(method, path, values, tries=len(_RETRIES_S) + 1))

    def _content(self, answer: httpx.Response) -> dict[str, Any]:
        if answer.status_code != httpx.codes.OK or not _is_json(answer):
            path = answer.request.url.path
            raise RestFailed(f"{self.url}: {path}: {_answer(answer)}", answer.status_code, _error_code(answer))
        content: dict[str, Any] = json.loads(answer.content)
        return content

    async def _send(self, method: str, path: str, values: dict[str, Any], tries: int) -> httpx.Response:
        given: dict[str, Any] = {"params": values} if method == "GET" else {"json": values}
        pauses = iter(_RETRIES_S[: tries - 1])
        while True:
            pause = next(pauses, None)
            try:
                async with self._slots:
                    answer = await self._client.request(method, self.url + path, **given)
                if pause is None or answer.status_code not in _BUSY:
                    return answer
            except httpx.HTTPError as error:
                if pause is None or isinstance(error, httpx.TimeoutException):
                    raise RestFailed(f"{self.url}: {path}: {_plain(error)}") from None
            await asyncio.sleep(pause)


def site_of(text: str, environment: Mapping[str, str] = os.environ) -> Site:
    """The site that a user's tracking URL means, with the login from it or from MLflow's own variables.

    Raises:
        BadInput: it is no http or https URL; the message never repeats a password.
    """
    shape = "write http://HOST:PORT"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise BadInput(f"the tracking URL is not a URL (percent-encode the password); {shape}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise BadInput(f"the tracking URL {_place(parts.scheme, host)!r} is not of a tracking server; {shape}")
    if parts.query or parts.fragment:
        raise BadInput(f"the tracking URL of {host} has a query or a fragment; {shape}")
    shown = f"[{host}]" if ":" in host else host
    url = urlunsplit((parts.scheme, shown if port is None else f"{shown}:{port}", parts.path.rstrip("/"), "", ""))
    return Site(url, _login(unquote(parts.username or ""), unquote(parts.password or ""), environment))


def _login(user: str, password: str, environment: Mapping[str, str]) -> dict[str, str]:
    """In MLflow's own order: name and password first, then a token."""
    user = user or environment.get("MLFLOW_TRACKING_USERNAME", "")
    password = password or environment.get("MLFLOW_TRACKING_PASSWORD", "")
    if user and password:
        return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
    if user:
        raise BadInput(f"the tracking server's user {user!r} has no password; set MLFLOW_TRACKING_PASSWORD")
    if token := environment.get("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    return {}


def _number(value: float) -> float | str:
    """JSON has no NaN and no infinity; protobuf's JSON has names for them."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _place(scheme: str, host: str | None) -> str:
    return f"{scheme}://{host}" if host else f"{scheme}:…" if scheme else "…"


def _is_json(answer: httpx.Response) -> bool:
    return _body(answer) is not None


def _body(answer: httpx.Response) -> dict[str, Any] | None:
    try:
        body = json.loads(answer.content)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _error_code(answer: httpx.Response) -> str:
    return str((_body(answer) or {}).get("error_code", ""))


def _message(answer: httpx.Response) -> str:
    return " ".join(str((_body(answer) or {}).get("message", answer.text)).split())[:200]


def _answer(answer: httpx.Response) -> str:
    code = _error_code(answer)
    return f"it answers {answer.status_code}" + (f" {code}: {_message(answer)}" if code else "")


def _plain(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
