"""Looks at one store and says what is not yet fit for production: `readiness`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

from bench.errors import BadInput
from bench.migrate.catalog import AUTH, TRACKING, Catalog, reflect
from bench.migrate.structure import compare_structure
from bench.readiness import accounts, backup, schema_checks, versions
from bench.readiness.check import Check, Readiness
from bench.readiness.database import Database, database_for
from bench.readiness.pristine import heads, pristine
from bench.readiness.scene import Question, Scene, Server, answer, one_line
from bench.stores import class_of, store_for
from bench.stores.base import Session, Store
from bench.stores.url import StoreUrl

Echo = Callable[[str], None]
_HYPERTABLE = "SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'"
_ADMINISTRATORS = "SELECT username, password_hash FROM users WHERE is_admin = {} ORDER BY id"


async def readiness(
    given: StoreUrl, server: Server | None = None, *, with_backup: bool = True, echo: Echo = lambda _: None
) -> Readiness:
    """Everything that can be seen of a store through its URL, with the rights that its login has.

    Nothing in the store is changed. With the backup it is dumped and restored elsewhere, which reads all of it.

    Raises:
        BadInput: it can't be reached, or is no MLflow database.
    """
    seconds: dict[str, float] = {}
    began = time.monotonic()
    async with _opened(given) as (url, store, session):
        scene = Scene(url, store, session, server or Server())
        database = database_for(scene)
        await _collected(database, scene)
        reflecting = asyncio.create_task(asyncio.to_thread(reflect, url))  # many round trips, beside ours
        try:
            checks = await _asked(database, scene)
        finally:
            catalog = await reflecting
        version = await store.version(session)
        checks.append(versions.check(version, datetime.now(UTC).date()))
        checks += await _of_schema(catalog, scene)
        seconds["checks"] = round(time.monotonic() - began, 3)
        if with_backup:
            size = next((check.found for check in checks if check.name == "sizes"), "")
            echo(f"{url}: {len(checks)} checks made; {size}")
            found, times = await backup.check(database.backup(), catalog, await database.whole(), echo)
            checks.append(found)
            seconds.update(times)
    return Readiness(url=str(given), store=url.store, version=version, checks=checks, seconds=seconds)


@asynccontextmanager
async def _opened(given: StoreUrl) -> AsyncIterator[tuple[StoreUrl, Store, Session]]:
    """The store, by the name that it truly has: MLflow's own URLs don't tell TimescaleDB, nor MariaDB."""
    if given.path is not None and not given.path.is_file():
        raise BadInput(f"{given}: no such file; give the URL of an MLflow store")
    store = store_for(given)
    try:
        session = await store.connect()
    except Exception as error:
        kind = store.classify(error)
        why = f"{kind.label}: {one_line(error)}"
        raise BadInput(f"{given}: can't be used ({why}); is it reachable, user and password right?") from error
    try:
        url = await _named(given, store, session)
        yield url, class_of(url.store)(url), session
    finally:
        await session.close()


async def _named(given: StoreUrl, store: Store, session: Session) -> StoreUrl:
    if given.store in ("mysql", "mariadb"):
        product = (await store.version(session)).partition(" ")[0].lower()
        return replace(given, store=product)
    if given.store == "postgresql" and await session.fetch(_HYPERTABLE):
        return replace(given, store="timescaledb")
    return given


async def _collected(database: Database, scene: Scene) -> None:
    try:
        await database.collect()
    except Exception as error:
        raise BadInput(
            f"{scene.url}: can't be looked at: {one_line(error)}; is the login's database the right one?"
        ) from error


async def _asked(database: Database, scene: Scene) -> list[Check]:
    checks: list[Check] = []
    for question in database.questions():
        checks += await answer(question, scene.session)
    return checks


async def _of_schema(catalog: Catalog, scene: Scene) -> list[Check]:
    async def of_revision() -> list[Check]:
        head, known = await heads(catalog.family, catalog.revision)
        return [schema_checks.revision(catalog.revision, head, known, catalog.family.name, scene.url)]

    async def of_structure() -> list[Check]:
        fresh = await pristine(catalog.family)
        if fresh.revision != catalog.revision:
            title, found = "Indexes and constraints", "compared only at our MLflow's own revision"
            return [
                Check(name="structure", title=title, outcome="unknown", found=found, remedy="see the schema's revision")
            ]
        return [schema_checks.structure(compare_structure(fresh, catalog), catalog)]

    async def of_administrators() -> list[Check]:
        true = "true" if scene.url.store in ("postgresql", "timescaledb") else "1"
        rows = await scene.session.fetch(_ADMINISTRATORS.format(true))
        return [await asyncio.to_thread(accounts.administrators, [(str(row[0]), str(row[1])) for row in rows])]

    questions = [
        Question("revision", "Schema revision", of_revision),
        Question("structure", "Indexes and constraints", of_structure),
    ]
    if catalog.family == AUTH or (catalog.family == TRACKING and "users" in catalog.tables):
        questions.append(Question("admin_password", "Passwords of MLflow's administrators", of_administrators))
    return [check for question in questions for check in await answer(question, scene.session)]
