"""What the processes do that import MLflow for its migrations: see `bench.stores.schema`, which starts them.

Each is one order, with its arguments in the environment (an URI may hold a password), ends with its owner, and leaves
one line of JSON on stdout.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Engine

URI: Final = "TRACKBENCH_SCHEMA_URI"
FAMILY: Final = "TRACKBENCH_SCHEMA_FAMILY"
REVISION: Final = "TRACKBENCH_SCHEMA_REVISION"
ARTIFACTS: Final = "TRACKBENCH_ARTIFACT_ROOT"
FOLDER: Final = "TRACKBENCH_FILE_STORE"
AUTH: Final = "alembic_version_auth"  # a family is known by the table that holds its revision
FAILED: Final = 3  # the exit code where the reply is why it failed


def _create() -> dict[str, Any]:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(os.environ[URI], os.environ[ARTIFACTS])
    return {}


def _revisions() -> dict[str, Any]:
    from alembic.script import ScriptDirectory
    from mlflow.store.db.base_sql_model import Base
    from mlflow.store.db.utils import _get_alembic_config

    scripts = ScriptDirectory.from_config(_get_alembic_config(""))
    return {
        "head": scripts.get_current_head(),
        "known": [one.revision for one in scripts.walk_revisions()],
        "tables": [*Base.metadata.tables, "alembic_version"],
    }


def _create_at() -> dict[str, Any]:
    """The tables as they are at one revision, and what the migrations up to there put in them.

    An authentication database of before MLflow 3.6 has the first revision's tables, and says nothing of revisions.
    """
    from alembic import command

    revision = os.environ.get(REVISION, "")
    engine = _engine()
    if os.environ[FAMILY] == AUTH:
        config = _auth_config(engine)
        command.upgrade(config, revision or _first(config))
        if not revision:
            with engine.begin() as connection:
                connection.exec_driver_sql(f"DROP TABLE {AUTH}")
        return {}
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.store.tracking.dbmodels.initial_models import Base

    Base.metadata.create_all(engine)  # as MLflow does; its migrations begin with these
    with engine.begin() as connection:
        config = _get_alembic_config(_told(engine))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    return {}


def _upgrade() -> dict[str, Any]:
    """What ``mlflow db upgrade`` does, and ``mlflow server auth db upgrade``."""
    engine = _engine()
    if os.environ[FAMILY] == AUTH:
        _auth_config(engine)
        from mlflow.server.auth.db.utils import migrate

        migrate(engine, "head")
    else:
        from mlflow.store.db.utils import _upgrade_db

        _upgrade_db(engine)
    return {}


def _file_store() -> dict[str, Any]:
    """What ``mlflow migrate-filestore`` does; ``passed_over`` is what it could not read and only warned of.

    A time that the file store does not have stays unknown, instead of becoming that of the import.
    """
    passed_over: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            passed_over.append(" ".join(record.getMessage().split()))

    from mlflow.store.db.base_sql_model import Base
    from mlflow.store.fs2db import migrate
    from mlflow.store.model_registry.dbmodels import models as _registry  # noqa: F401 (so that Base knows their tables)
    from mlflow.store.tracking.dbmodels import models as _tracking  # noqa: F401

    for table in Base.metadata.tables.values():
        for column in table.columns:
            if column.nullable and column.default is not None and column.default.is_callable:
                column.default = None
    logging.getLogger("mlflow.store.fs2db").addHandler(Keep(logging.WARNING))
    migrate(Path(os.environ[FOLDER]), os.environ[URI], progress=False)
    return {"passed_over": passed_over}


def _engine() -> Engine:
    import sqlalchemy as sa

    engine = sa.create_engine(os.environ[URI], poolclass=sa.NullPool)
    if engine.dialect.name == "sqlite":  # hundreds of commits; the first one with rows in it syncs these too

        @sa.event.listens_for(engine, "connect")
        def unsynced(connection: Any, _: object) -> None:
            connection.execute("PRAGMA synchronous = OFF")

    return engine


def _told(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=False)


def _auth_config(engine: Engine) -> Config:
    """Of the authentication database, without the web application that MLflow imports on the way to it: 5 s."""
    import mlflow

    for name in ("mlflow.server", "mlflow.server.auth"):
        if name not in sys.modules:
            package = types.ModuleType(name)
            package.__path__ = [str(Path(mlflow.__path__[0], *name.split(".")[1:]))]
            package.__spec__ = importlib.util.spec_from_loader(name, None, is_package=True)
            sys.modules[name] = package
    from mlflow.server.auth.db.utils import _get_alembic_config

    config: Config = _get_alembic_config(_told(engine))
    return config


def _first(config: Config) -> str:
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(config).get_bases()[0]


_ORDERS: Final[dict[str, Callable[[], dict[str, Any]]]] = {
    "create": _create,
    "revisions": _revisions,
    "create_at": _create_at,
    "upgrade": _upgrade,
    "file_store": _file_store,
}


_WITHOUT_PANDAS: Final = frozenset({"revisions", "create_at", "upgrade"})


def _why(error: BaseException) -> str:
    """An error in one line; SQLAlchemy's own text adds the statement, its values and an address."""
    cause = getattr(error, "orig", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[0]}" if lines else type(cause).__name__


def _end_with_owner() -> None:
    """A server that is gone with its owner would be waited for, attempt after attempt."""
    os.read(0, 1)
    os._exit(1)


def main(order: str) -> int:
    """Carry out ``order``; the exit code is `FAILED` where the reply says ``why``."""
    threading.Thread(target=_end_with_owner, daemon=True).start()
    if order in _WITHOUT_PANDAS:
        sys.modules["pandas"] = None  # type: ignore[assignment]  # MLflow does without, and starts in 0.5 s less
    stdout, sys.stdout = sys.stdout, sys.stderr  # MLflow prints
    code = 0
    try:
        reply = _ORDERS[order]()
    except Exception as error:
        import traceback

        traceback.print_exc()
        reply, code = {"why": _why(error)}, FAILED
    stdout.write(json.dumps(reply) + "\n")
    stdout.flush()
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
