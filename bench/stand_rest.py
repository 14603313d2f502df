"""A candidate of which we know a tracking server only: the user's, with a database that we can't reach."""

from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from bench import identity, prefill
from bench.errors import BadInput
from bench.identity import TrialKey
from bench.integrity import Expected, Tally, read_back
from bench.integrity.run_audit import run_row
from bench.job import ReadTargets
from bench.outcome import Outcome
from bench.rest import Rest, RestFailed
from bench.rest_rows import RestRows
from bench.scenario import CandidateSpec, Prefill
from bench.stand import Access, Door, Facts, Stand, one_line
from bench.stores.base import Counters
from bench.stores.tracking import RunRow

_UNKNOWN = "unknown: the database can't be asked, only its tracking server was given"


@dataclass
class RestStand(Stand):
    """All that it does goes over MLflow's REST API; the server chooses the ids of runs."""

    door: ClassVar[Door] = "rest"

    rest: Rest = field(kw_only=True)

    async def create_experiment(self, name: str, prefix: str) -> int:
        """As `Stand` says."""
        experiment_id = int(await self.rest.create_experiment(name))
        self.ours[experiment_id] = prefix
        return experiment_id

    async def create_run(self, run: RunRow) -> str:
        """As `Stand` says."""
        return await self.rest.create_run(run.experiment_id, run.name, run.start_time, run.user)

    async def fill(self, wanted: Prefill, key: TrialKey, name: str) -> None:
        """As `Stand` says: one batch a run."""
        try:
            await self._fill(wanted, key, name)
        except RestFailed as error:
            raise BadInput(f"{self.rest.url}: can't be prefilled ({one_line(error)}); see its log") from error

    async def _fill(self, wanted: Prefill, key: TrialKey, name: str) -> None:
        if not wanted.runs:
            return
        plan = prefill.layout(key, wanted)
        experiment_id = await self.create_experiment(name, key.prefix)
        ordinals = np.arange(plan.metrics_per_cycle)
        run_ids = []
        for writer in range(plan.writers):
            run_ids.append(await self.create_run(run_row(key, writer, 0, experiment_id, self.artifact_root)))
            timestamps, values = identity.metrics(key, np.array([writer]), ordinals)
            keys, steps = plan.metric_places(writer, ordinals)
            metrics = list(zip(keys, values.tolist(), timestamps.tolist(), steps, strict=True))
            work = plan.workload
            params = [(plan.param_key(writer, n), identity.text(key, writer, n, "param")) for n in range(work.params)]
            tags = [(plan.tag_key(writer, n), identity.text(key, writer, n, "tag")) for n in range(work.tags)]
            await self.rest.log_batch(run_ids[-1], metrics, params, tags)
        done = np.full(plan.commits_per_cycle, Outcome.OK, dtype=np.uint8)
        self.filled = Expected(plan, [done] * plan.writers, experiment_id, by_name=True)
        self.reads = ReadTargets(experiment_id, key, wanted.runs, prefill.KEYS, tuple(run_ids))

    async def settle(self) -> None:
        """As `Stand` says: nothing here is ours."""

    async def counters(self) -> Counters:
        """As `Stand` says."""
        return Counters()

    async def gauges(self) -> dict[str, float]:
        """As `Stand` says."""
        return {}

    async def finish_writing(self, expected: Expected, in_doubt: bool) -> None:
        """As `Stand` says: what is under way can't be seen from here."""

    async def read_back(self, expected: Expected) -> Tally:
        """As `Stand` says; whole tables can't be counted."""
        rows = RestRows(self.rest, [expected.experiment_id], identity.run_name(expected.layout.key.prefix))
        return await read_back(rows, replace(expected, by_name=True))

    async def remove(self, experiments: list[int]) -> None:
        """As `Stand` says: into MLflow's trash, which only ``mlflow gc`` empties."""
        if self.keep:
            return
        for experiment_id in experiments:
            async for page in self.rest.search_experiments(identity.run_name(self.ours[experiment_id])):
                for one in [one for one in page if one["lifecycle_stage"] == "active"]:
                    await self.rest.delete_experiment(one["experiment_id"])
            await self.rest.delete_experiment(experiment_id)
            del self.ours[experiment_id]

    async def renew(self) -> None:
        """As `Stand` says: httpx opens connections as it needs them."""


def their_facts(version: str) -> dict[str, str]:
    """What we can say of a tracking server that the user gave."""
    return {"server": f"MLflow {version}, the user's own", "authentication": "as the user's server wants it"}


async def open_rest(name: str, spec: CandidateSpec, access: Access, stack: AsyncExitStack) -> RestStand:
    """A stand at a tracking server of the user's.

    Raises:
        BadInput: it can't be reached, or is not an MLflow that we can use.
    """
    if access.site is None:
        raise BadInput(f"candidate {name!r}: no tracking server was given")
    if access.traces:
        raise BadInput(
            f"{access.site.url}: traces and spans are compared by SQL; give --store {spec.store}=URL as well"
        )
    rest = await stack.enter_async_context(Rest(access.site.url, access.site.headers))
    version = await rest.identify()
    facts = Facts(
        kind=spec.store,
        source="the user's tracking server",
        version=_UNKNOWN,
        settings={},
        durable=None,
        durability=_UNKNOWN,
        connections=None,
        schema_revision=None,
        schema_current=None,
        schema_missing=None,
    )
    return RestStand(
        name,
        spec,
        facts,
        theirs=True,
        keep=access.keep,
        artifact_root="mlflow-artifacts:",
        site=access.site,
        site_facts=their_facts(version),
        rest=rest,
    )
