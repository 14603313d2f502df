"""MLflow's own ``db upgrade`` in any Python that has an MLflow: of its own it needs the standard library only.

`bench.migrate.upgrades` hands its text to a Python with ``-c``. The store's URL comes by environment, so that no
password shows in a process list, and stdin is a pipe: when it closes, its owner has ended, and so does this.
"""

import json
import logging
import os
import sys
import threading
from typing import Any

ENDED = "ended"  # a line on stdout: the upgrade itself has ended well


def _end_with_owner() -> None:
    os.read(0, 1)
    os._exit(1)


def _about(family: str) -> dict[str, Any]:
    """MLflow's version, and the revisions that it knows of this family of databases."""
    import mlflow
    from alembic.script import ScriptDirectory

    config: Any
    if family == "tracking store":
        from mlflow.store.db.utils import _get_alembic_config

        config = _get_alembic_config("")
    else:
        from mlflow.server.auth.db.utils import _get_alembic_config as _get_auth_config

        config = _get_auth_config("sqlite://")
    scripts = ScriptDirectory.from_config(config)
    known = [one.revision for one in scripts.walk_revisions()]  # the newest first
    return {"version": mlflow.__version__, "head": scripts.get_current_head(), "known": known}


def _upgrade(family: str, url: str) -> None:
    """What ``mlflow db upgrade`` does, without its command line."""
    if family == "tracking store":
        from mlflow import db

        command: Any = db.upgrade
        arguments = {"url": url}
    else:
        from mlflow.server.auth.db import cli

        command = cli.upgrade
        arguments = {"url": url, "revision": "head"}
    logging.basicConfig(format="%(message)s")
    logging.getLogger("alembic.runtime.migration").setLevel(logging.INFO)  # names each migration that begins
    command.callback(**arguments)
    _say(ENDED)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(order: str, family: str) -> None:
    """Answer one order: ``about`` or ``upgrade``."""
    threading.Thread(target=_end_with_owner, daemon=True).start()
    if order == "about":
        _say(json.dumps(_about(family)))
    else:
        _upgrade(family, os.environ["TRACKBENCH_UPGRADE_URI"])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
