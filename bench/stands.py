"""Brings stands up: a server of ours or the user's, schema, settings, and a tracking server where HTTP is measured."""

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from bench import removal, servers
from bench.errors import BadInput
from bench.identity import EPOCH_MS
from bench.rest import Rest
from bench.scenario import CandidateSpec
from bench.scratch import scratch_folder
from bench.servers import databases, places, tracking
from bench.stand import Access, Echo, Stand
from bench.stand_rest import open_rest, their_facts
from bench.stand_sql import SqlStand, as_bad_input, facts_of
from bench.stores import schema, store_for
from bench.stores.base import Session, Store
from bench.stores.url import StoreUrl, parse

DATABASE = "mlflow"
_THEIR_ARTIFACTS = "mlflow-artifacts:/"  # what `mlflow server` gives the default experiment


@asynccontextmanager
async def stand(name: str, spec: CandidateSpec, access: Access, cache: Path, echo: Echo) -> AsyncIterator[Stand]:
    """Bring up a candidate; on exit what is ours is stopped and gone.

    Raises:
        BadInput: no server, no login, or a database that is not an MLflow store of our revision.
    """
    async with AsyncExitStack() as stack:
        if access.site is not None and access.url is None:
            yield await open_rest(name, spec, access, stack)
            return
        ready = await _open_store(name, spec, access, (stack, cache, echo))
        if access.http:
            await _open_site(ready, access, stack, echo)
        yield ready


async def _open_store(
    name: str, spec: CandidateSpec, access: Access, given: tuple[AsyncExitStack, Path, Echo]
) -> SqlStand:
    stack, cache, echo = given
    source, url, database = "the user's URL", access.url, None
    theirs = url is not None
    if url is None:
        url, source, database = await _private(name, spec, (stack, echo), access.small_disk)
    if access.move_in is not None:
        await access.move_in(url, database)
    store = store_for(url)
    with as_bad_input(store, theirs):
        session = await store.connect(spec.session)
        stack.push_async_callback(session.close)
        await _ensure_schema(store, session, cache, theirs, lambda text: echo(f"{name}: {text}"))
    ready = SqlStand(
        name,
        spec,
        await facts_of(store, session, source),
        theirs,
        keep=access.keep and theirs,
        artifact_root=f"file:///trackbench/{name}",
        url=url,
        store=store,
        session=session,
        database=database,
    )
    stack.push_async_callback(ready.close)
    return ready


async def _open_site(ready: SqlStand, access: Access, stack: AsyncExitStack, echo: Echo) -> None:
    """Put a tracking server in front of a store: one of ours, unless the user gave theirs."""
    given = access.site
    if given is not None:
        async with Rest(given.url, given.headers) as rest:
            ready.site, ready.site_facts = given, their_facts(await rest.identify(access.traces))
            await _check_it_serves(ready, rest)
        return
    settings = tracking.TrackingSettings(**ready.spec.tracking.model_dump(), trace_rollups=await _rolled_up(ready))
    echo(f"{ready.name}: starting an MLflow server ({settings})")
    server = await asyncio.to_thread(tracking.start, ready.store.url.mlflow, settings)
    stack.push_async_callback(asyncio.to_thread, server.stop)
    ready.server, ready.site = server, server.site
    ready.site_facts = {
        "server": f"MLflow {server.version}, private",
        "workers": str(settings.workers),
        "pool": f"{settings.connections // settings.workers} connections a worker at most",
        "authentication": "basic-auth" if settings.authentication else "off",
    }


async def _rolled_up(ready: SqlStand) -> bool:
    """Whether MLflow's jobs have left sums over traces in the store: then its servers must be told to use them."""
    tables = [table for table in await ready.store.tables(ready.session) if "rollup" in table]
    found = [await ready.session.fetch(f"SELECT 1 FROM {table} LIMIT 1") for table in tables]
    await ready.session.rollback()
    return any(found)


async def _check_it_serves(ready: SqlStand, rest: Rest) -> None:
    """Refuse a tracking server that stands in front of another database: an experiment made here must show there.

    Raises:
        BadInput: it does not.
    """
    prefix = secrets.token_hex(6)
    name = f"trackbench-{prefix}-looked-for"
    experiment_id = await ready.tracking.create_experiment(name, ready.artifact_root, EPOCH_MS)
    try:
        shown = [one["experiment_id"] async for page in rest.search_experiments(name) for one in page]
    finally:
        await removal.remove(ready.session, experiment_id, prefix)
    if shown != [str(experiment_id)]:
        raise BadInput(f"{rest.url}: does not serve {ready.store.url}; give the tracking server of that database")


async def _private(
    name: str, spec: CandidateSpec, given: tuple[AsyncExitStack, Echo], small_disk: bool
) -> tuple[StoreUrl, str, servers.RunningServer | None]:
    """(URL of an empty database of ours, where its server comes from, the server)."""
    stack, echo = given
    if spec.store == "sqlite":
        folder = stack.enter_context(scratch_folder("sqlite"))
        (folder / "mlflow.db").touch()
        return StoreUrl("sqlite", path=folder / "mlflow.db"), "Python's own sqlite3", None
    kind = servers.as_kind(spec.store)
    echo(f"{name}: starting a private {spec.store} server{' on a small disk' if small_disk else ''}")
    disk_mb = servers.SMALL_DISK_MB[kind] if small_disk else None
    server = await asyncio.to_thread(servers.start, kind, spec.server, echo, None, disk_mb)
    stack.push_async_callback(asyncio.to_thread, server.stop)
    await asyncio.to_thread(databases.create, server, DATABASE)
    return parse(server.url(DATABASE), server.kind), server.source, server


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


def cache_folder() -> Path:
    """Where schema templates and server prefixes are kept."""
    return places.cache_dir()
