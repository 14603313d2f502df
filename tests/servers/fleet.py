"""Stores with a real `mlflow server` in front of each, for HTTP trials in this process, and loads that go wrong."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
from stores import Park, connected, sql

from bench import ledger, loader, stands
from bench.cell import Integrity
from bench.identity import TrialKey, run_name
from bench.integrity import TABLES, Expected, Tally, read_back
from bench.job import Job
from bench.plan import Trial
from bench.rest import Rest
from bench.rest_rows import RestRows
from bench.scenario import CandidateSpec, Prefill, parse_text
from bench.stand import Access
from bench.stand_sql import SqlStand
from bench.trial import Setting, run_trial
from bench.trial_record import TrialRecord
from bench.workload import Layout

RUN = "fleet"
USERS = 2
PREFILL = Prefill(runs=3, metrics=30)
WORKLOADS = {
    "log_metric": "",
    "log_batch": "metrics = 5\nparams = 2\ntags = 2",
    "train": "experiments = true\nparams = 2\ntags = 2\nsteps = 3\nkeys = 2",
    "read": "",
    "mixed": "metrics = 3\nparams = 1\ntags = 1\nread_share = 0.5",
    "traces": "spans = 3\nread_share = 0.25",
}
Disturb = Callable[[Job], Any]


def scenario(stores: Sequence[str], kinds: Sequence[str] = tuple(WORKLOADS), more: str = "", **cell: Any) -> str:
    """HTTP cells of two users each, as TOML; ``cell`` is what each of them says beside that."""
    lines = "".join(f"{name} = {value}\n" for name, value in ({"count": 8} | cell).items())
    candidates = "".join(f'[candidates.{name}]\nstore = "{name}"\ntracking = {{ workers = 1 }}\n' for name in stores)
    workloads = "".join(f'[workloads.{kind}]\nkind = "{kind}"\n{WORKLOADS[kind]}\n' for kind in kinds)
    cells = "".join(
        f'[[cells]]\ndriver = "http"\nworkload = "{kind}"\nconcurrency = [{USERS}]\n{lines}' for kind in kinds
    )
    return (
        f'title = "over HTTP"\nrounds = 1\nwarmup_s = 0.0\nduration_s = 60.0\n'
        f"[prefill]\nruns = {PREFILL.runs}\nmetrics = {PREFILL.metrics}\n{candidates}{workloads}{cells}"
        f'[[criteria]]\nname = "whole"\nexpression = "integrity == 1"\n{more}'
    )


@dataclass
class _Disturbed:
    """A load's frames; ``disturb`` is called once: after so many operations, or (None) when the frames have ended."""

    load: loader.Load
    job: Job
    disturb: Disturb
    after: int | None
    seen: int = 0

    async def frames(self) -> AsyncIterator[dict[str, object]]:
        """As `loader.Load` says."""
        async for frame in self.load.frames():
            before, self.seen = self.seen, self.seen + int(str(frame.get("ok", 0)))
            if self.after is not None and before < self.after <= self.seen:
                await asyncio.to_thread(self.disturb, self.job)
            yield frame
        if self.after is None:
            await asyncio.to_thread(self.disturb, self.job)


def disturbed(disturb: Disturb, after: int | None = None) -> loader.Loader:
    """The command line's own loader, with something done behind the run's back.

    That is when the load is over and before anything is read back, or in its middle, ``after`` so many operations.
    """

    @asynccontextmanager
    async def start(job: Job) -> AsyncIterator[loader.Load]:
        async with loader.start(job) as load:
            yield _Disturbed(load, job, disturb, after)

    return start


@dataclass
class Fleet:
    """Private stores, each with a tracking server of one worker, all started and stopped together."""

    folder: Path
    stands: dict[str, SqlStand] = field(default_factory=dict)
    _runner: asyncio.Runner = field(default_factory=asyncio.Runner)
    _stacks: list[AsyncExitStack] = field(default_factory=list)
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    def start(self, park: Park, names: Sequence[str], public: Path) -> None:
        """Bring them up, prefilled."""
        urls = {name: park.fresh(name, public) for name in names}

        async def one(name: str) -> None:
            stack = AsyncExitStack()
            self._stacks.append(stack)
            spec = CandidateSpec.model_validate({"store": name, "tracking": {"workers": 1}})
            opened = stands.stand(name, spec, Access(urls[name], http=True), self.folder, lambda _: None)
            ready = await stack.enter_async_context(opened)
            assert isinstance(ready, SqlStand)
            ready.theirs = False  # the rows of whole tables are counted
            await ready.fill(PREFILL, TrialKey.of(f"{RUN}/{name}", 1, 0), f"prefill of {name}")
            self.stands[name] = ready

        async def all_of_them() -> None:
            async with asyncio.TaskGroup() as group:
                for name in names:
                    group.create_task(one(name))

        self.run(all_of_them())

    def run(self, work: Any) -> Any:
        """What a coroutine returns, on the loop of the stands' connections."""
        return self._runner.run(work)

    def trial(
        self, name: str, kind: str, count: int | None, start: loader.Loader = loader.start, **changes: Any
    ) -> tuple[TrialRecord, Path]:
        """A trial of two users on this store, and its folder; ``changes`` are other fields of `bench.plan.Trial`."""
        number = next(self._numbers)
        planned = replace(Trial(number, 0, name, "http", kind, USERS, 0.0, 60.0, count, 0, USERS), **changes)
        setting = Setting(RUN, 1, parse_text(scenario([name]), "fleet.toml"), self.folder, start)
        record = self.run(run_trial(planned, setting, self.stands[name]))
        return record, next((self.folder / "trials").glob(f"{number:04d}-*"))

    def rows(self, name: str) -> dict[str, int]:
        """The rows of whole tables, counted now."""

        async def count() -> dict[str, int]:
            ready = self.stands[name]
            found = await ready.store.count(ready.session, (*TABLES, "trace_info", "spans", "trace_tags"))
            await ready.session.rollback()
            return dict(found)

        counted: dict[str, int] = self.run(count())
        return counted

    def prefilled(self, name: str) -> int:
        """The experiment of the prefill."""
        filled = self.stands[name].filled
        assert filled is not None
        return filled.experiment_id

    def close(self) -> None:
        """Stop everything."""

        async def all_of_them() -> None:
            async with asyncio.TaskGroup() as group:
                for stack in self._stacks:
                    group.create_task(stack.aclose())

        self.run(all_of_them())
        self._runner.close()


class Kept:
    """The rows of a trial, still there: to be changed, looked at through both doors, and mended.

    ``runs`` and ``experiments`` are the ids that the server chose for each user's first run, ``names`` their names.
    """

    _TABLES = ("experiments", "runs", "tags", "params", "metrics", "latest_metrics")  # parents first

    def __init__(self, fleet: Fleet, name: str, kind: str, count: int) -> None:
        self.fleet, self.stand = fleet, fleet.stands[name]
        assert self.stand.url is not None
        self.url = self.stand.url
        self.key, self.mark = self.stand.session.dialect.render("{key}"), "?" if self.url.path else "%s"
        self.stand.keep = True
        record, folder = fleet.trial(name, kind, count)
        self.stand.keep = False
        assert record.error is None
        work = parse_text(scenario([name]), "fleet.toml").workloads[kind].workload(kind)
        layout = Layout(TrialKey.of(RUN, 1, record.number), work, USERS)
        statuses = [ledger.load(folder, user) for user in range(USERS)]
        (experiment,) = self.stand.ours.keys() - {fleet.prefilled(name)}
        self.expected = Expected(layout, statuses, experiment, by_name=True)
        self.names = [layout.key.name(user, 0) for user in range(USERS)]
        found = {row[0]: row[1:] for row in sql(self.url, "SELECT name, run_uuid, experiment_id FROM runs")}
        self.runs = [str(found[one][0]) for one in self.names]
        self.experiments = [int(found[one][1]) for one in self.names]
        self._rows = {table: sql(self.url, f"SELECT * FROM {table}") for table in self._TABLES}

    def look(self) -> tuple[Tally, Tally]:
        """What the read-back says: by SQL, over REST."""

        async def both() -> tuple[Tally, Tally]:
            assert self.stand.site is not None
            by_sql = await self.stand.read_back(self.expected)
            async with Rest(self.stand.site.url, self.stand.site.headers) as rest:
                rows = RestRows(rest, [self.expected.experiment_id], run_name(self.expected.layout.key.prefix))
                return by_sql, await read_back(rows, self.expected)

        tallies: tuple[Tally, Tally] = self.fleet.run(both())
        return tallies

    def post(self, path: str, **body: object) -> None:
        """A request of somebody else's to the tracking server."""
        assert self.stand.site is not None
        answer = httpx.post(f"{self.stand.site.url}/api/2.0/mlflow/{path}", json=body, timeout=60, trust_env=False)
        assert answer.status_code == httpx.codes.OK, answer.text

    def mend(self) -> None:
        """Put every row back as the trial had left it."""
        self.stand.theirs = False
        with connected(self.url) as cursor:
            for table in reversed(self._TABLES):
                spared = " WHERE experiment_id <> 0" if table == "experiments" else ""
                cursor.execute(f"DELETE FROM {table}{spared}")
            for table in self._TABLES:
                rows = [row for row in self._rows[table] if table != "experiments" or row[0] != 0]
                marks = ", ".join([self.mark] * len(rows[0]))
                cursor.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)

    def remove(self) -> None:
        """Take the trial's rows away, as the product does after a trial."""
        self.fleet.run(self.stand.remove_trials())


def counts(found: Tally | Integrity) -> dict[str, int]:
    """The defects that a check found, without zeros."""
    named = {name: getattr(found, name) for name in ("lost", "duplicated", "corrupted", "unexpected")}
    return {name: n for name, n in {**named, **found.invariants}.items() if n}
