"""MLflow's stores over a database that they can't write to: for processes that have MLflow imported.

MLflow's stores write when they are opened: tables that are missing, a default experiment that was deleted, revisions.
Here all that they do goes through one connection, in one read-only transaction that sees the database as it was when
it was opened and that never ends: COMMIT and ROLLBACK are not sent. The database refuses every write.
"""

from __future__ import annotations

import os
import sqlite3
from typing import Any
from urllib.parse import quote

import mlflow.store.db.utils as db
import sqlalchemy as sa
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as RegistryStore
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from bench.migrate.reader import Refused

_make_engine = db.create_sqlalchemy_engine
_NO_ARTIFACTS = "/nonexistent"  # where nothing is going to be written


def engine(uri: str) -> sa.Engine:
    """MLflow's engine for ``uri``, through one frozen connection."""
    made: sa.Engine = _make_engine(uri)
    silenced = {"do_begin": _nothing, "do_commit": _nothing, "do_rollback": _nothing, "do_ping": _alive}
    for name, instead in silenced.items():
        setattr(made.dialect, name, instead)

    @sa.event.listens_for(made, "do_connect")
    def connect(dialect: Any, _: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if dialect.name == "sqlite":
            place = f"file:{quote(arguments[0])}?mode=ro"
            return sqlite3.connect(place, **options | {"uri": True, "isolation_level": None})
        connection = dialect.loaded_dbapi.connect(*arguments, **options)
        if dialect.name == "postgresql":
            cursor = connection.cursor()
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")  # it may wait for the proof of the rows
        else:
            with connection.cursor() as cursor:
                cursor.execute("SET SESSION wait_timeout = 86400")
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        return connection

    return made


def _nothing(*_: Any) -> None:
    """In place of what would begin or end a transaction."""


def _alive(*_: Any) -> bool:
    """In place of a ping, which psycopg2 can't send inside a transaction."""
    return True


def _uri(engine: sa.Engine) -> str:
    """As the owner knows it, who hides the password."""
    return engine.url.render_as_string(hide_password=False)


def _refuse_tables(engine: sa.Engine) -> None:
    raise Refused(f"{_uri(engine)}: lacks tables that MLflow's client needs")


def freeze_mlflow() -> None:
    """Have MLflow open every store of this process so, and write nothing at its start."""
    db.create_sqlalchemy_engine = engine
    db._initialize_tables = _refuse_tables
    db.MAX_RETRY_COUNT = 1
    SqlAlchemyStore._create_default_experiment = _nothing
    import mlflow.store.model_registry.sqlalchemy_store as registry

    registry._initialize_tables = _refuse_tables


def open_client(uri: str) -> tuple[MlflowClient, sa.Engine]:
    """MLflow's own client of a store and its registry, and the engine under it.

    Raises:
        Refused: MLflow can't read it, in its own words.
    """
    shared = engine(uri)
    for store in (SqlAlchemyStore, RegistryStore):
        store._engine_map[uri] = shared
    try:
        _allow_workspaces(shared)
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client._tracking_client.store  # noqa: B018 (opens it)
        client._get_registry_client().store  # noqa: B018
    except (MlflowException, sa.exc.SQLAlchemyError) as error:
        raise Refused(f"{uri}: MLflow's client can't read it: {first_line(error)}") from error
    return client, shared


def _allow_workspaces(shared: sa.Engine) -> None:
    """A store with workspaces of its own can't be opened without them, and one without them can with them."""
    statement = "SELECT 1 FROM experiments WHERE workspace <> 'default' LIMIT 1"
    models = "SELECT 1 FROM registered_models WHERE workspace <> 'default' LIMIT 1"
    hooks = "SELECT 1 FROM webhooks WHERE workspace <> 'default' LIMIT 1"
    with shared.connect() as connection:
        if any(connection.execute(sa.text(one)).first() for one in (statement, models, hooks)):
            os.environ["MLFLOW_ENABLE_WORKSPACES"] = "true"


def first_line(error: BaseException) -> str:
    """An exception in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
