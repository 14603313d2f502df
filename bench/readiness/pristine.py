"""The schema as our MLflow makes it, to compare others with."""

from __future__ import annotations

import asyncio
import secrets

from bench.migrate.catalog import AUTH, TRACKING, Catalog, Family, reflect
from bench.migrate.upgrades import mlflow_of
from bench.scratch import scratch_folder
from bench.servers import places
from bench.stores import schema
from bench.stores.url import StoreUrl

_made: dict[str, Catalog] = {}


async def pristine(family: Family) -> Catalog:
    """An empty SQLite store of this family at our MLflow's revision, reflected; made once and then kept."""
    if family.name not in _made:
        _made[family.name] = await (_tracking() if family == TRACKING else _auth())
    return _made[family.name]


async def heads(family: Family, found: str | None) -> tuple[str, frozenset[str]]:
    """Our MLflow's revision, and all that it knows; MLflow is only asked for them where ``found`` is another."""
    head = (await pristine(family)).revision or ""
    if found == head:
        return head, frozenset({head})
    if family == TRACKING:
        known = await schema.revisions()
        return known.head, known.known
    told = await mlflow_of(None, family)
    return told.head, frozenset(told.known)


async def _tracking() -> Catalog:
    template = schema.template_path(places.cache_dir())
    if not template.exists():
        draft = template.with_suffix(f".{secrets.token_hex(4)}.tmp")
        draft.touch()
        await schema.create(StoreUrl("sqlite", path=draft), "file:///trackbench/default")
        draft.replace(template)
    return await asyncio.to_thread(reflect, StoreUrl("sqlite", path=template))


async def _auth() -> Catalog:
    told = await mlflow_of(None, AUTH)
    with scratch_folder("schema") as folder:
        url = StoreUrl("sqlite", path=folder / "auth.db")
        (folder / "auth.db").touch()
        await schema.create_at(url, AUTH, told.head)
        return await asyncio.to_thread(reflect, url)
