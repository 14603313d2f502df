"""Past runs out of a tracking store, as plain values."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from bench.errors import BadInput
from bench.history import store
from bench.history.names import PREFIX, experiment
from bench.history.record import EXIT_CODE, INTERRUPTED, LOGGED, MACHINE, REVISION, RUN_ID, SCENARIO, VERDICT

MOST: Final = 200
"""Runs read back where nobody says how many: the search for changes takes time with the square of their number."""
_PAGE: Final = 100


@dataclass(frozen=True)
class PastRun:
    """One run of a scenario. ``metrics`` and ``params`` are by their keys in MLflow (see `bench.history.names`)."""

    id: str
    started: datetime
    revision: str
    verdict: str
    exit_code: str
    machine: str
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    interrupted: bool = False


@dataclass(frozen=True)
class Kept:
    """A scenario that has runs in a tracking store."""

    scenario: str
    runs: int
    latest: datetime | None


def scenarios(uri: str) -> list[Kept]:
    """The scenarios that have runs there, by name.

    Raises:
        BadInput: the store can't be used.
    """
    to = store.address(uri)
    store.check(to)
    with store.client(to) as client:
        found = []
        for one in _experiments(client):
            starts = [run.info.start_time for run in _runs(client, one.experiment_id)]
            name = one.tags.get(SCENARIO, one.name.removeprefix(PREFIX))
            found.append(Kept(name, len(starts), _moment(max(starts)) if starts else None))
        return sorted(found, key=lambda each: each.scenario)


def past(uri: str, scenario: str, most: int = MOST) -> list[PastRun]:
    """The latest runs of a scenario, the oldest of them first; those that were not logged to their end are left out.

    Raises:
        BadInput: the store can't be used, or has no such scenario.
    """
    to = store.address(uri)
    store.check(to)
    with store.client(to) as client:
        found = client.get_experiment_by_name(experiment(scenario))
        if found is None or found.lifecycle_stage != "active":
            there = ", ".join(sorted(one.tags.get(SCENARIO, one.name) for one in _experiments(client)))
            known = f"it has {there}" if there else "nothing was tracked there; `trackbench run --track` does"
            raise BadInput(f"--track {to}: has no runs of {scenario!r}; {known}")
        runs = []
        for run in _runs(client, found.experiment_id):
            runs.append(_past_run(run))
            if len(runs) == most:
                break
    return sorted(runs, key=lambda each: (each.started, each.id))


def _experiments(client: Any) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_experiments(filter_string=f"name LIKE '{PREFIX}%'", page_token=token)
        yield from (one for one in page if one.name.startswith(PREFIX))  # LIKE need not mind the case
        if not (token := page.token):
            return


def _runs(client: Any, experiment_id: str) -> Iterator[Any]:
    """The runs of an experiment that were logged to their end, the latest first."""
    token = None
    while True:
        page = client.search_runs(
            [experiment_id], max_results=_PAGE, order_by=["attributes.start_time DESC"], page_token=token
        )
        yield from (run for run in page if LOGGED in run.data.tags)
        if not (token := page.token):
            return


def _past_run(run: Any) -> PastRun:
    tags = run.data.tags
    return PastRun(
        id=tags.get(RUN_ID, run.info.run_name),
        started=_moment(run.info.start_time),
        revision=tags.get(REVISION, "unknown"),
        verdict=tags.get(VERDICT, "unknown"),
        exit_code=tags.get(EXIT_CODE, ""),
        machine=tags.get(MACHINE, "unknown"),
        interrupted=tags.get(INTERRUPTED) == "yes",
        metrics=dict(run.data.metrics),
        params=dict(run.data.params),
    )


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
