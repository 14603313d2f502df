"""A stand: one candidate's store, ready for trials: a server of ours or the user's, schema, prefill, settings."""

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import prefill, servers
from bench.errors import BadInput
from bench.identity import EPOCH_MS, TrialKey
from bench.integrity import TABLES, Expected
from bench.job import ReadTargets
from bench.scenario import CandidateSpec, Prefill
from bench.scratch import scratch_folder
from bench.servers import databases, places
from bench.stores import schema, store_for
from bench.stores.base import Durability, Session, Store
from bench.stores.tracking import Tracking
from bench.stores.url import StoreUrl, parse

Echo = Callable[[str], None]
DATABASE = "mlflow"
_THEIR_ARTIFACTS = "mlflow-artifacts:/"  # what `mlflow server` gives the default experiment


@dataclass
class Stand:
    """A candidate's store during a run. ``session`` is the run's own connection, beside those of the writers."""

    name: str
    spec: CandidateSpec
    store: Store
    session: Session
    source: str
    theirs: bool
    keep: bool  # whether our rows stay in a database that the user gave
    artifact_root: str
    version: str
    settings: dict[str, str]
    durability: Durability
    connections: int | None
    filled: Expected | None = None
    reads: ReadTargets | None = None
    baseline: dict[str, int] = field(default_factory=dict)
    ours: dict[int, str] = field(default_factory=dict)  # experiments that we made: their runs' prefix

    @property
    def tracking(self) -> Tracking:
        """MLflow's operations over the run's own connection."""
        return Tracking(self.store, self.session)

    async def create_experiment(self, name: str, prefix: str) -> int:
        """An experiment for runs with this prefix, remembered so that `remove` finds it."""
        experiment_id = await self.tracking.create_experiment(name, self.artifact_root, EPOCH_MS)
        self.ours[experiment_id] = prefix
        return experiment_id

    async def remove_trials(self) -> None:
        """Remove what trials made, and leave the prefill."""
        filled = None if self.filled is None else self.filled.experiment_id
        await self._remove([one for one in self.ours if one != filled])

    async def remove_all(self) -> None:
        """Remove everything that we made."""
        await self._remove(list(self.ours))

    async def _remove(self, experiments: list[int]) -> None:
        if self.keep:
            return
        render = self.session.dialect.render
        for experiment_id in experiments:
            prefix = self.ours[experiment_id]
            await self.session.begin()
            for table in ("metrics", "latest_metrics", "params", "tags", "runs"):
                statement = f"DELETE FROM {table} WHERE run_uuid >= ? AND run_uuid < ?"
                await self.session.execute(render(statement), prefix, prefix + "g")
            await self.session.execute(render("DELETE FROM experiments WHERE experiment_id = ?"), experiment_id)
            await self.session.commit()
            del self.ours[experiment_id]

    async def renew(self) -> None:
        """Log in again: an error or a cancelled query may have left the old connection in any state."""
        await self.session.close()
        self.session = await self.store.connect(self.spec.session)

    async def close(self) -> None:
        """End the connection."""
        await self.session.close()


@asynccontextmanager
async def stand(
    name: str, spec: CandidateSpec, url: StoreUrl | None, cache: Path, echo: Echo, *, keep: bool = False
) -> AsyncIterator[Stand]:
    """Bring up a candidate's store, at ``url`` if the user gave one; on exit what is ours is stopped and gone.

    Raises:
        BadInput: no server, no login, or a database that is not an MLflow store of our revision.
    """
    async with AsyncExitStack() as stack:
        source = "the user's URL"
        theirs = url is not None
        if url is None:
            url, source = await _private(name, spec, stack, echo)
        store = store_for(url)
        with _as_bad_input(store, theirs):
            session = await store.connect(spec.session)
            stack.push_async_callback(session.close)
            await _ensure_schema(store, session, cache, theirs, lambda text: echo(f"{name}: {text}"))
        settings = await store.settings(session)
        ready = Stand(
            name,
            spec,
            store,
            session,
            source,
            theirs,
            keep=keep and theirs,
            artifact_root=f"file:///trackbench/{name}",
            version=await store.version(session),
            settings=settings,
            durability=store.durability(settings),
            connections=await store.max_connections(session),
        )
        await session.rollback()
        stack.push_async_callback(ready.close)
        yield ready


async def _private(name: str, spec: CandidateSpec, stack: AsyncExitStack, echo: Echo) -> tuple[StoreUrl, str]:
    """(URL of an empty database of ours, where its server comes from)."""
    if spec.store == "sqlite":
        folder = stack.enter_context(scratch_folder("sqlite"))
        (folder / "mlflow.db").touch()
        return StoreUrl("sqlite", path=folder / "mlflow.db"), "Python's own sqlite3"
    echo(f"{name}: starting a private {spec.store} server")
    server = await asyncio.to_thread(servers.start, servers.as_kind(spec.store), spec.server, echo)
    stack.push_async_callback(asyncio.to_thread, server.stop)
    await asyncio.to_thread(databases.create, server, DATABASE)
    return parse(server.url(DATABASE), server.kind), server.source


@contextmanager
def _as_bad_input(store: Store, theirs: bool) -> Iterator[None]:
    """Turn a driver's exception into one line that says what, where and how to mend it."""
    try:
        yield
    except (BadInput, asyncio.CancelledError):
        raise
    except Exception as error:
        kind = store.classify(error)
        what = "is it an MLflow database, reachable, with the right user and password?" if theirs else "see the log"
        raise BadInput(f"{store.url}: can't be used ({kind.label}: {one_line(error)}); {what}") from error


def one_line(error: BaseException) -> str:
    """An exception's text on one line, for messages."""
    return " ".join(str(error).split())[:200] or type(error).__name__


async def _ensure_schema(store: Store, session: Session, cache: Path, theirs: bool, echo: Echo) -> None:
    """Refuse what does not fit before anything is changed; make the schema in an empty database."""
    found = await schema.inspect(store, session)
    empty = found.content is schema.Content.EMPTY
    if misfit := await store.misfit(session, empty):
        raise BadInput(f"{store.url}: {misfit}")
    if not empty:
        schema.check(store.url, found, await schema.revisions())
        return
    echo(f"making MLflow {schema.mlflow_version()}'s schema")
    artifacts = _THEIR_ARTIFACTS if theirs else "file:///trackbench/default"
    if store.url.path is None or theirs:
        await schema.create(store.url, artifacts)
        await store.after_schema(session)
        return
    template = schema.template_path(cache)
    if not template.exists():
        draft = template.with_suffix(f".{secrets.token_hex(4)}.tmp")
        draft.touch()
        await schema.create(StoreUrl("sqlite", path=draft), artifacts)
        draft.replace(template)
    shutil.copyfile(template, store.url.path)


async def fill(ready: Stand, wanted: Prefill, key: TrialKey, name: str) -> None:
    """Prefill a stand in an experiment of this name, and take the row counts that later ones are reconciled with."""
    with _as_bad_input(ready.store, ready.theirs):
        await _fill(ready, wanted, key, name)


async def _fill(ready: Stand, wanted: Prefill, key: TrialKey, name: str) -> None:
    if wanted.runs:
        experiment_id = await ready.create_experiment(name, key.prefix)
        ready.filled = await prefill.fill(ready.tracking, key, wanted, experiment_id, ready.artifact_root)
        ready.reads = ReadTargets(experiment_id, key, wanted.runs, prefill.KEYS)
    ready.baseline = await ready.store.count(ready.session, TABLES)
    await ready.session.rollback()


def cache_folder() -> Path:
    """Where schema templates and server prefixes are kept."""
    return places.cache_dir()
