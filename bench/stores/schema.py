"""MLflow's schema on a store: made by MLflow's own migrations, recognised, and refused when it does not fit."""

import ast
import asyncio
import json
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.errors import BadInput
from bench.stores import schema_child
from bench.stores.base import Session, Store
from bench.stores.url import StoreUrl

if TYPE_CHECKING:
    from bench.migrate.catalog import Family

_MIGRATIONS: Final = {  # of a family, by the table that holds its revision: where MLflow keeps them
    "alembic_version": "store/db_migrations/versions",
    schema_child.AUTH: "server/auth/db/migrations/versions",
}
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
    await _child("create", {schema_child.URI: url.mlflow, schema_child.ARTIFACTS: artifact_root})


async def create_at(url: StoreUrl, family: "Family", revision: str | None) -> None:
    """Make the tables of a family as they are at ``revision``, with MLflow's own migrations.

    There must be none of them; a table of ours is left alone. What MLflow's migrations put in (the default experiment
    and workspace) is there afterwards. No revision is an authentication database's of before MLflow 3.6. Takes about
    3 s and MySQL's time for 280 statements that change a schema.

    Raises:
        BadInput: MLflow could not; the message holds its last words. PostgreSQL is as it was then, the others not.
    """
    await _child(
        "create_at",
        {
            schema_child.URI: url.mlflow,
            schema_child.FAMILY: family.version_table,
            schema_child.REVISION: revision or "",
        },
        f"make its schema at revision {revision}" if revision else "make its first schema",
    )


async def upgrade(url: StoreUrl, family: "Family") -> None:
    """Bring a store to our MLflow's schema in place, by what ``mlflow db upgrade`` does: only ever a copy.

    Raises:
        BadInput: MLflow could not; the message holds its last words.
    """
    order = {schema_child.URI: url.mlflow, schema_child.FAMILY: family.version_table}
    await _child("upgrade", order, "upgrade its schema")


async def take_file_store(folder: Path, url: StoreUrl) -> list[str]:
    """Bring the file store in ``folder`` into an empty SQLite file, by what ``mlflow migrate-filestore`` does.

    Gives what MLflow passed over because it could not read it, in its own words.

    Raises:
        BadInput: MLflow could not; the message holds its last words.
    """
    order = {schema_child.URI: url.mlflow, schema_child.FOLDER: str(folder)}
    reply = await _child("file_store", order, "take the file store in")
    passed_over: list[str] = reply["passed_over"]
    return passed_over


@dataclass(frozen=True)
class Lineage:
    """The revisions of one family that our MLflow knows; ``head`` is the one it wants."""

    head: str
    known: frozenset[str]


@cache
def lineage(family: "Family") -> Lineage:
    """Read from the migrations' files, without MLflow: importing it takes seconds.

    Raises:
        BadInput: the files say nothing that makes sense; MLflow keeps them elsewhere, then.
    """
    found = find_spec("mlflow")
    root = Path((found.submodule_search_locations or [""])[0]) if found else Path()
    below: dict[str, set[str]] = {}
    for path in (root / _MIGRATIONS[family.version_table]).glob("*.py"):
        said = _assigned(path.read_text(encoding="utf-8"))
        if isinstance(revision := said.get("revision"), str):
            before = said.get("down_revision")
            below[revision] = {before} if isinstance(before, str) else set(before or ())
    heads = set(below) - set().union(*below.values())
    if len(heads) != 1:
        raise BadInput(
            f"MLflow {mlflow_version()}: its migrations have {len(heads)} ends; install the one that Trackbench wants"
        )
    return Lineage(heads.pop(), frozenset(below))


def _assigned(source: str) -> dict[str, Any]:
    """What a migration's file gives its module's names, where that is a constant."""
    said = {}
    for statement in ast.parse(source).body:
        if not isinstance(statement, ast.Assign | ast.AnnAssign) or statement.value is None:
            continue
        name = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
        if isinstance(name, ast.Name):
            with suppress(ValueError):
                said[name.id] = ast.literal_eval(statement.value)
    return said


_revisions: list[Revisions] = []  # they never change, and asking takes seconds


async def revisions() -> Revisions:
    """The revisions that our MLflow knows."""
    if not _revisions:
        _revisions.append(await _ask_revisions())
    return _revisions[0]


async def _ask_revisions() -> Revisions:
    reply = await _child("revisions", {})
    return Revisions(reply["head"], frozenset(reply["known"]), frozenset(reply["tables"]))


async def _child(order: str, environment: dict[str, str], what: str = "prepare the store") -> dict[str, Any]:
    """MLflow is imported in a process of its own: it is heavy, and it configures logging for everybody."""
    ours, alive = os.pipe()  # the child ends when the other end closes, which it does however we end
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.stores.schema_child", order,
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
    reply: dict[str, Any] = json.loads((out.decode().splitlines() or ["{}"])[-1])
    if process.returncode != 0:
        lines = [line for line in err.decode(errors="replace").splitlines() if line.strip()]
        why = reply.get("why") or (lines or ["no message"])[-1]
        if secret := environment.get(schema_child.URI, ""):
            why = why.replace(secret, "the store")
        raise BadInput(f"MLflow {mlflow_version()} could not {what}: {why}")
    return reply


def template_path(cache_dir: Path) -> Path:
    """Where the SQLite template of our MLflow's schema is kept."""
    return cache_dir / f"schema-mlflow-{mlflow_version()}.db"
