"""A candidate whose store we reach by SQL, beside its writers."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from bench import prefill, removal
from bench.errors import BadInput
from bench.identity import EPOCH_MS, TrialKey
from bench.integrity import TABLES, Expected, SqlRows, Tally, read_back, read_traces, reconcile
from bench.job import ReadTargets
from bench.scenario import Prefill
from bench.servers import RunningServer
from bench.stand import Door, Facts, Stand, one_line
from bench.stores import schema
from bench.stores.base import Counters, Session, Store
from bench.stores.tracking import RunRow, Tracking

_LOOK_EVERY_S = 0.25
_LAST_COMMIT_S = 10.0
_LAST_REQUEST_S = 120.0  # MLflow may wait for a connection (30 s), then for SQLite's lock (20 s), more than once


@dataclass
class SqlStand(Stand):
    """``session`` is the run's own connection; ``baseline`` the rows of each table before the trials."""

    door: ClassVar[Door] = "sql"

    store: Store = field(kw_only=True)
    database: RunningServer | None = None  # a server of ours; SQLite has none
    session: Session = field(kw_only=True)
    baseline: dict[str, int] = field(default_factory=dict)

    @property
    def tracking(self) -> Tracking:
        """MLflow's operations over the run's own connection."""
        return Tracking(self.store, self.session)

    async def create_experiment(self, name: str, prefix: str) -> int:
        """As `Stand` says."""
        experiment_id = await self.tracking.create_experiment(name, self.artifact_root, EPOCH_MS)
        self.ours[experiment_id] = prefix
        return experiment_id

    async def create_run(self, run: RunRow) -> str:
        """As `Stand` says; by SQL the id is ours, for both drivers."""
        await self.tracking.create_run(run)
        return run.run_id

    async def fill(self, wanted: Prefill, key: TrialKey, name: str) -> None:
        """As `Stand` says; the row counts are taken that later ones are reconciled with."""
        with as_bad_input(self.store, self.theirs):
            if wanted.runs:
                experiment_id = await self.create_experiment(name, key.prefix)
                self.filled = await prefill.fill(self.tracking, key, wanted, experiment_id, self.artifact_root)
                self.reads = ReadTargets(experiment_id, key, wanted.runs, prefill.KEYS)
            self.baseline = await self.store.count(self.session, TABLES)
            await self.session.rollback()

    async def settle(self) -> None:
        """As `Stand` says."""
        if not self.theirs:
            await self.store.settle(self.session)

    async def counters(self) -> Counters:
        """As `Stand` says."""
        found = await self.store.counters(self.session)
        await self.session.rollback()
        return found

    async def gauges(self) -> dict[str, float]:
        """As `Stand` says."""
        return await self.store.gauges(self.session)

    async def finish_writing(self, expected: Expected, in_doubt: bool) -> None:
        """As `Stand` says; waits for the database have a limit, since a user's may never be quiet.

        Raises:
            TimeoutError: requests are still under way in our tracking server; no read-back would be of any use.
        """
        if in_doubt and self.server is not None:
            async with asyncio.timeout(_LAST_REQUEST_S):
                while await asyncio.to_thread(self.server.under_way):  # noqa: ASYNC110
                    await asyncio.sleep(_LOOK_EVERY_S)  # no event tells it
        deadline = time.monotonic() + _LAST_COMMIT_S
        left = self.store.writers_left
        while in_doubt and await left(self.session, expected.by_name) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_EVERY_S)
        await self.session.rollback()
        if expected.layout.workload.kind == "bulk":
            await self.tracking.rebuild_latest(expected.layout.key.prefix)

    async def read_back(self, expected: Expected) -> Tally:
        """As `Stand` says; in a database of ours the rows of whole tables are counted too, without joins."""
        if expected.layout.workload.kind == "traces":
            tally = await read_traces(self.session, expected)
        else:
            tally = await read_back(SqlRows(self.session, expected.layout.key, expected.by_name), expected)
        if not self.theirs and expected is not self.filled:
            now = await self.store.count(self.session, TABLES)
            trials_own = Counter({"experiments": 1})
            tally.add(reconcile(self.baseline, now, tally.tables + trials_own))
        await self.session.rollback()
        return tally

    async def remove(self, experiments: list[int]) -> None:
        """As `Stand` says."""
        if self.keep:
            return
        for experiment_id in experiments:
            await removal.remove(self.session, experiment_id, self.ours[experiment_id])
            del self.ours[experiment_id]

    async def renew(self) -> None:
        """As `Stand` says."""
        await self.session.close()
        self.session = await self.store.connect(self.spec.session)

    async def close(self) -> None:
        """End the connection."""
        await self.session.close()


async def facts_of(store: Store, session: Session, source: str) -> Facts:
    """What the store says of itself."""
    settings = await store.settings(session)
    durability = store.durability(settings)
    found, wanted = await schema.inspect(store, session), await schema.revisions()
    facts: dict[str, Any] = {
        "version": await store.version(session),
        "connections": await store.max_connections(session),
    }
    await session.rollback()
    return Facts(
        kind=store.name,
        source=source,
        settings=settings,
        durable=durability.ok,
        durability=durability.claim,
        crash=durability.crash,
        power=durability.power,
        schema_revision=found.revision,
        schema_current=found.revision == wanted.head,
        schema_missing=tuple(sorted(wanted.tables - found.tables)),
        **facts,
    )


@contextmanager
def as_bad_input(store: Store, theirs: bool) -> Iterator[None]:
    """Turn a driver's exception into one line that says what, where and how to mend it."""
    try:
        yield
    except (BadInput, asyncio.CancelledError):
        raise
    except Exception as error:
        kind = store.classify(error)
        what = "is it an MLflow database, reachable, with the right user and password?" if theirs else "see the log"
        raise BadInput(f"{store.url}: can't be used ({kind.label}: {one_line(error)}); {what}") from error
