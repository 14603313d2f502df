"""Stored rows read over MLflow's REST API, in the shape in which SQL gives them (`bench.integrity.Rows`)."""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

from bench.identity import LARGEST
from bench.rest import CONCURRENCY, HISTORY_PAGE, PAGE, Rest

_BATCH = 5_000
_AHEAD = 2 * CONCURRENCY  # histories asked for before their turn
_AT_ONCE = 100  # experiments a search

Row = tuple[Any, ...]


class RestRows:
    """Rows of some experiments: those given by id, and those whose names begin with ``prefix``.

    ``page`` is runs an answer, ``history_page`` metrics an answer. Runs with params, tags and latest metrics are read
    once and kept; metrics are streamed. A key of metrics that has no latest metric is not seen.
    """

    def __init__(
        self,
        rest: Rest,
        experiment_ids: Iterable[str | int],
        prefix: str | None = None,
        page: int = PAGE,
        history_page: int = HISTORY_PAGE,
    ) -> None:
        self._rest = rest
        self._given = [str(one) for one in experiment_ids]
        self._prefix = prefix
        self._page, self._history_page = page, history_page
        self._experiments: list[Row] | None = None
        self._runs: list[dict[str, Any]] | None = None

    async def experiments(self) -> AsyncIterator[Sequence[Row]]:
        """(experiment_id, name, lifecycle_stage) of those whose names begin with the prefix."""
        for rows in _batches(await self._named()):
            yield rows

    async def runs(self) -> AsyncIterator[Sequence[Row]]:
        """(run_uuid, name, status, start_time, end_time, lifecycle_stage, experiment_id)."""
        async for rows in self._each(_run_rows):
            yield rows

    async def params(self) -> AsyncIterator[Sequence[Row]]:
        """(run_uuid, key, value)."""
        async for rows in self._each(lambda run: _text_rows(run, "params")):
            yield rows

    async def tags(self) -> AsyncIterator[Sequence[Row]]:
        """(run_uuid, key, value)."""
        async for rows in self._each(lambda run: _text_rows(run, "tags")):
            yield rows

    async def latest_metrics(self) -> AsyncIterator[Sequence[Row]]:
        """(run_uuid, key, step, timestamp, value, is_nan)."""
        async for rows in self._each(lambda run: [_metric(_id(run), one) for one in _data(run, "metrics")]):
            yield rows

    async def metrics(self) -> AsyncIterator[Sequence[Row]]:
        """(run_uuid, key, step, timestamp, value, is_nan), sorted by the first five."""
        places = [(_id(run), one["key"]) for run in await self._all_runs() for one in _data(run, "metrics")]
        waiting = iter(sorted(places))
        under_way: deque[asyncio.Task[list[Row]]] = deque()
        batch: list[Row] = []
        try:
            while True:
                while len(under_way) < _AHEAD and (place := next(waiting, None)) is not None:
                    under_way.append(asyncio.create_task(self._history(*place)))
                if not under_way:
                    break
                batch += await under_way.popleft()
                if len(batch) >= _BATCH:
                    yield batch
                    batch = []
            if batch:
                yield batch
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _history(self, run_id: str, key: str) -> list[Row]:
        rows = []
        async for page in self._rest.metric_history(run_id, key, self._history_page):
            rows += [_metric(run_id, one) for one in page]
        return sorted(rows)

    async def _each(self, rows_of: Callable[[dict[str, Any]], list[Row]]) -> AsyncIterator[Sequence[Row]]:
        """What ``rows_of`` says of every run, by run id."""
        for rows in _batches(row for run in await self._all_runs() for row in rows_of(run)):
            yield rows

    async def _named(self) -> list[Row]:
        if self._experiments is None:
            self._experiments = []
            if self._prefix is not None:
                async for page in self._rest.search_experiments(self._prefix, self._page):
                    self._experiments += [
                        (int(one["experiment_id"]), one["name"], one["lifecycle_stage"]) for one in page
                    ]
        return self._experiments

    async def _all_runs(self) -> list[dict[str, Any]]:
        if self._runs is None:
            ids = [*self._given, *(str(row[0]) for row in await self._named())]
            found: list[dict[str, Any]] = []
            for start in range(0, len(ids), _AT_ONCE):
                async for page in self._rest.search_runs(ids[start : start + _AT_ONCE], self._page):
                    found += page
            self._runs = sorted(found, key=_id)
        return self._runs


def _id(run: dict[str, Any]) -> str:
    return str(run["info"]["run_id"])


def _data(run: dict[str, Any], what: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = run.get("data", {}).get(what, [])
    return found


def _run_rows(run: dict[str, Any]) -> list[Row]:
    info = run["info"]
    times = (_integer(info.get("start_time")), _integer(info.get("end_time")))
    name, status = info.get("run_name"), info["status"]
    return [(_id(run), name, status, *times, info["lifecycle_stage"], _integer(info["experiment_id"]))]


def _text_rows(run: dict[str, Any], what: str) -> list[Row]:
    return [(_id(run), one["key"], one.get("value", "")) for one in _data(run, what)]


def _metric(run_id: str, metric: dict[str, Any]) -> Row:
    """A metric as MLflow stores it: no NaN but a mark, no infinity but the largest double."""
    value = float(metric["value"])  # also from "NaN", "Infinity" and "-Infinity", which JSON has no numbers for
    is_nan = math.isnan(value)
    stored = 0.0 if is_nan else max(-LARGEST, min(LARGEST, value))
    return (run_id, metric["key"], int(metric.get("step", 0)), int(metric["timestamp"]), stored, is_nan)


def _integer(text: Any) -> int | None:
    """An integer field: MLflow writes some as strings, and leaves out what is not set. Experiment "None" has no id."""
    return None if text is None or text == "None" else int(text)


def _batches(rows: Iterable[Row]) -> Iterable[list[Row]]:
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
