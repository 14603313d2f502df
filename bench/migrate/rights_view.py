"""What `bench.migrate.rights` compares, in the process that has MLflow imported."""

from __future__ import annotations

import os
from collections import Counter
from hashlib import sha256
from typing import Any

import sqlalchemy as sa
from mlflow.exceptions import MlflowException

from bench.migrate.frozen import first_line
from bench.migrate.plain import Plain, differing, plain
from bench.migrate.reader import Refused

_KEY = "MLFLOW_FLASK_SERVER_SECRET_KEY"  # MLflow's authentication wants one, also where it only reads


def compare(source: str, target: str) -> tuple[list[dict[str, str]], dict[str, int]]:
    """The fields of each `ClientDifference`, and how many of each were read from the source."""
    here = _users(source)
    try:
        there = _users(target)
    except Refused as refusal:
        text = str(refusal)
        return [{"what": "authentication", "where": "opening it", "source": "opens", "target": text}], {}
    read = Counter(users=len(here))
    for user in here.values():
        read["roles"] += len(user["roles"])
        read["permissions"] += sum(len(role["permissions"]) for role in user["roles"].values())
    return [
        {"what": "user", "where": place, "source": one, "target": other} for place, one, other in differing(here, there)
    ], dict(read)


def _users(uri: str) -> dict[str, Any]:
    """What each user is and may do, by name; roles by name and workspace, permissions by what they are for."""
    os.environ.setdefault(_KEY, "only to read")
    from mlflow.server.auth.db import utils
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

    utils.migrate_if_needed = _refuse_older
    store = SqlAlchemyStore()
    try:
        store.init_db(uri)
        return {
            user.username: {
                "administrator": user.is_admin,
                "password": _unreadable(user.password_hash),
                "roles": {f"{role.name} in {role.workspace}": _role(role) for role in roles},
                "workspaces": plain(store.list_accessible_workspace_names(user.username)),
            }
            for user, roles in store.list_users_with_roles()
        }
    except (MlflowException, sa.exc.SQLAlchemyError) as error:
        raise Refused(f"{uri}: MLflow's authentication can't read it: {first_line(error)}") from error


def _role(role: Any) -> Plain:
    permissions = {f"{one.resource_type} {one.resource_pattern}": one.permission for one in role.permissions}
    return {"description": role.description, "permissions": permissions}


def _unreadable(hashed: str) -> str:
    """What differs if the hash does, and tells nothing of it."""
    return f"set, known as {sha256(hashed.encode()).hexdigest()[:8]}"


def _refuse_older(made: sa.Engine, revision: str) -> None:
    """In place of MLflow's migration to ``revision``, which this process could not write."""
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from mlflow.server.auth.db.utils import _get_alembic_config

    head = ScriptDirectory.from_config(_get_alembic_config("")).get_revision(revision).revision
    with made.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": "alembic_version_auth"})
        found = context.get_current_revision()
    if found != head:
        uri = made.url.render_as_string(hide_password=False)
        raise Refused(f"{uri}: schema revision {found}, and MLflow's authentication wants {head}")
