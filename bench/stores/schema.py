"""MLflow's schema on a store: made by MLflow's own migrations, recognised, and refused when it does not fit."""

import asyncio
import json
import os
import sys
import threading
from dataclasses import dataclass
from enum import Enum
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.errors import BadInput
from bench.stores.base import Session, Store
from bench.stores.url import StoreUrl

_URI_VARIABLE = "TRACKBENCH_SCHEMA_URI"  # by environment, so that no password shows in a process list
_NEEDED = frozenset({"metrics", "latest_metrics", "params", "tags", "runs", "experiments", "alembic_version"})


class Content(Enum):
    """What a database holds."""

    EMPTY = "empty"
    MLFLOW = "MLflow's schema"
    FOREIGN = "something else"


@dataclass(frozen=True)
class Found:
    """What was found: ``revision`` is MLflow's schema revision, if it has one."""

    content: Content
    tables: frozenset[str]
    revision: str | None


@cache
def mlflow_version() -> str:
    """The MLflow whose schema and statements we use."""
    return version("mlflow")


async def inspect(store: Store, session: Session) -> Found:
    """Look at what a database holds now, changing nothing: MySQL shows a transaction what was there when it began."""
    await session.rollback()
    tables = set(await store.tables(session))
    await session.rollback()
    if not tables:
        return Found(Content.EMPTY, frozenset(), None)
    if not tables >= _NEEDED:
        return Found(Content.FOREIGN, frozenset(tables), None)
    rows = await session.fetch("SELECT version_num FROM alembic_version")
    await session.rollback()
    return Found(Content.MLFLOW, frozenset(tables), rows[0][0] if rows else None)


@dataclass(frozen=True)
class Revisions:
    """The schema revisions that our MLflow knows; ``head`` is the one it wants, ``tables`` what that one has."""

    head: str
    known: frozenset[str]
    tables: frozenset[str]


def check(url: StoreUrl, found: Found, revisions: Revisions) -> None:
    """Refuse what is not an MLflow store of our revision.

    Raises:
        BadInput: the database holds something else, or an older or newer schema.
    """
    ours = f"MLflow {mlflow_version()} wants {revisions.head}"
    if found.content is Content.FOREIGN:
        raise BadInput(
            f"{url}: holds {len(found.tables)} tables that are not MLflow's; give an empty database or an MLflow store"
        )
    if found.content is Content.EMPTY or found.revision == revisions.head:
        return
    if found.revision in revisions.known:
        raise BadInput(
            f"{url}: schema revision {found.revision} is older, {ours}; back the store up, then run `mlflow db upgrade`"
        )
    raise BadInput(
        f"{url}: schema revision {found.revision} is newer or unknown, {ours}; use a Trackbench for that MLflow"
    )


async def create(url: StoreUrl, artifact_root: str) -> None:
    """Make MLflow's schema (and its default experiment) in an empty database.

    Raises:
        BadInput: MLflow could not; the message holds its last words.
    """
    await _child("create", {_URI_VARIABLE: url.mlflow, "TRACKBENCH_ARTIFACT_ROOT": artifact_root})


_revisions: list[Revisions] = []  # they never change, and asking takes seconds


async def revisions() -> Revisions:
    """The revisions that our MLflow knows."""
    if not _revisions:
        _revisions.append(await _ask_revisions())
    return _revisions[0]


async def _ask_revisions() -> Revisions:
    reply = await _child("revisions", {})
    return Revisions(reply["head"], frozenset(reply["known"]), frozenset(reply["tables"]))


async def _child(order: str, environment: dict[str, str]) -> dict[str, Any]:
    """MLflow is imported in a process of its own: it is heavy, and it configures logging for everybody."""
    ours, alive = os.pipe()  # the child ends when the other end closes, which it does however we end
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.stores.schema", order,
            stdin=ours, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env=os.environ | environment | {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"},
            start_new_session=True,
        )  # fmt: skip
        try:
            out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    finally:
        os.close(ours)
        os.close(alive)
    if process.returncode != 0:
        secret = environment.get(_URI_VARIABLE, "")
        lines = [line for line in err.decode(errors="replace").splitlines() if line.strip()]
        last = lines[-1].replace(secret, "the store") if lines and secret else (lines or ["no message"])[-1]
        raise BadInput(f"MLflow {mlflow_version()} could not prepare the store: {last}")
    reply: dict[str, Any] = json.loads(out.decode().splitlines()[-1])
    return reply


def _end_with_owner() -> None:
    """A server that is gone with its owner would be waited for, attempt after attempt."""
    os.read(0, 1)
    os._exit(1)


def _main(order: str) -> None:
    threading.Thread(target=_end_with_owner, daemon=True).start()
    reply: dict[str, Any] = {}
    if order == "create":
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        SqlAlchemyStore(os.environ[_URI_VARIABLE], os.environ["TRACKBENCH_ARTIFACT_ROOT"])
    else:
        from alembic.script import ScriptDirectory
        from mlflow.store.db.base_sql_model import Base
        from mlflow.store.db.utils import _get_alembic_config

        scripts = ScriptDirectory.from_config(_get_alembic_config(""))
        reply = {
            "head": scripts.get_current_head(),
            "known": [one.revision for one in scripts.walk_revisions()],
            "tables": [*Base.metadata.tables, "alembic_version"],
        }
    sys.stdout.write(json.dumps(reply) + "\n")


def template_path(cache_dir: Path) -> Path:
    """Where the SQLite template of our MLflow's schema is kept."""
    return cache_dir / f"schema-mlflow-{mlflow_version()}.db"


if __name__ == "__main__":
    _main(sys.argv[1])
