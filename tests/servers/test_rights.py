"""Authentication databases: what users may do is the same after a move, and each difference is named."""

import asyncio
import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import olden
import pytest
from migrated import move
from stores import Park, sql, wait_until

from bench.errors import BadInput
from bench.migrate.catalog import AUTH
from bench.migrate.proof import ClientDifference
from bench.migrate.rights import compare_rights
from bench.stores import schema
from bench.stores.url import StoreUrl

pytestmark = pytest.mark.servers

READ = {"users": 3, "roles": 2, "permissions": 4}
PASSWORDS = {"admin": "an administrator's password", "reader": "password of reader", "Żaneta": "password of Żaneta"}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an old MLflow's authentication left, brought to the newest schema by MLflow itself."""
    path = olden.database(f"auth-{olden.FIRST_AUTH}", tmp_path_factory.mktemp("auth") / "basic_auth.db")
    asyncio.run(schema.upgrade(StoreUrl("sqlite", path=path), AUTH))
    return path


@pytest.fixture
def pair(kept: Path, tmp_path: Path) -> tuple[StoreUrl, StoreUrl]:
    """Two files that hold the same."""
    urls = [StoreUrl("sqlite", path=Path(shutil.copyfile(kept, tmp_path / name))) for name in ("here.db", "there.db")]
    return urls[0], urls[1]


def compare(source: StoreUrl, target: StoreUrl) -> tuple[list[ClientDifference], dict[str, int]]:
    return asyncio.run(compare_rights(source, target))


def test_the_same_users_may_do_the_same_and_nothing_is_written(pair: tuple[StoreUrl, StoreUrl]) -> None:
    before = [url.path.read_bytes() for url in pair if url.path]
    assert compare(*pair) == ([], READ)
    assert [url.path.read_bytes() for url in pair if url.path] == before


def test_each_changed_right_is_named_and_no_password(pair: tuple[StoreUrl, StoreUrl]) -> None:
    source, target = pair
    [(reader,)] = sql(target, "SELECT id FROM users WHERE username = 'reader'")
    for statement in (
        "UPDATE role_permissions SET permission = 'MANAGE' WHERE resource_type = 'experiment' AND permission = 'READ'",
        f"UPDATE users SET is_admin = 1, password_hash = 'scrypt:another' WHERE id = {reader}",
        "DELETE FROM user_role_assignments WHERE user_id = (SELECT id FROM users WHERE username = 'Żaneta')",
        "INSERT INTO users (id, username, password_hash, is_admin) VALUES (99, 'stranger', 'scrypt:x', 1)",
    ):
        sql(target, statement)
    found, read = compare(source, target)
    assert read == READ
    named = {one.where: (one.source, one.target) for one in found}
    role = f"__user_{reader}__ in default"
    assert named["reader.administrator"] == ("False", "True")
    assert named[f"reader.roles.{role}.permissions.experiment 1"] == ('"READ"', '"MANAGE"')
    assert named["stranger"][0] == "none"
    assert any(where.startswith("Żaneta.roles.") and there == "none" for where, (_, there) in named.items())
    assert "reader.password" in named
    assert "scrypt" not in str(found)


@pytest.mark.slow
def test_an_older_schema_is_refused_or_differs(pair: tuple[StoreUrl, StoreUrl]) -> None:
    source, target = pair
    sql(target, "UPDATE alembic_version_auth SET version_num = '8606fa83a998'")
    with pytest.raises(BadInput, match=f"^{target}: schema revision 8606fa83a998, and MLflow's authentication wants "):
        compare(target, source)
    [one] = compare(source, target)[0]
    assert (one.what, one.source) == ("authentication", "opens")


# Through real servers


@contextmanager
def serving(store: StoreUrl, users: StoreUrl, folder: Path) -> Iterator[str]:
    """An MLflow server with authentication, whose users are in a database of their own."""
    folder.mkdir()
    settings = folder / "auth.ini"
    settings.write_text(
        f"[mlflow]\ndefault_permission = NO_PERMISSIONS\ndatabase_uri = {users.mlflow}\nadmin_username = admin\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        "grant_default_workspace_access = true\n"
    )
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    words = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--app-name",
        "basic-auth",
        "--host",
        "127.0.0.1",
        "--workers",
        "1",
    ]
    environment = {
        "MLFLOW_BACKEND_STORE_URI": store.mlflow,
        "MLFLOW_AUTH_CONFIG_PATH": str(settings),
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORDS["admin"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*words, "--port", str(port)], cwd=folder, env=os.environ | environment, stdout=log, stderr=log
        )
    url = f"http://127.0.0.1:{port}"

    def healthy() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        with suppress(httpx.HTTPError):
            return httpx.get(f"{url}/health", timeout=2, trust_env=False).status_code == httpx.codes.OK
        return False

    try:
        wait_until(healthy, "the server's health", 180)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def asked(url: str) -> dict[tuple[str, str], int]:
    """What each user is answered: status codes of reading and of writing an experiment, and with a wrong password."""
    found = {}
    for name, password in PASSWORDS.items():
        with httpx.Client(
            base_url=f"{url}/api/2.0/mlflow", auth=(name, password), timeout=30, trust_env=False
        ) as client:
            found[name, "read"] = client.get("/experiments/get", params={"experiment_id": "1"}).status_code
            tag = {"experiment_id": "1", "key": "by", "value": name}
            found[name, "write"] = client.post("/experiments/set-experiment-tag", json=tag).status_code
            found[name, "delete"] = client.post("/experiments/delete", json={"experiment_id": "9"}).status_code
        wrong = httpx.get(
            f"{url}/api/2.0/mlflow/experiments/get?experiment_id=1", auth=(name, "wrong"), trust_env=False
        )
        found[name, "wrong password"] = wrong.status_code
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)  # four starts of servers
def test_servers_answer_the_same_users_the_same_after_the_move(
    park: Park, fresh: Callable[[str], StoreUrl], kept: Path, tmp_path: Path
) -> None:
    store, users = fresh("sqlite"), StoreUrl("sqlite", path=Path(shutil.copyfile(kept, tmp_path / "basic_auth.db")))
    columns = "experiment_id, name, artifact_location, lifecycle_stage, creation_time, last_update_time"
    sql(store, f"INSERT INTO experiments ({columns}) VALUES (1, 'one', 'file:///nowhere', 'active', 1, 1)")
    with serving(store, users, tmp_path / "before") as url:
        before = asked(url)
    moved = park.empty("postgresql", tmp_path)
    move(users, moved)
    assert compare(users, moved) == ([], READ)
    with serving(store, moved, tmp_path / "after") as url:
        after = asked(url)
    assert after == before
    assert before["reader", "read"] == before["Żaneta", "write"] == httpx.codes.OK
    assert before["reader", "write"] == httpx.codes.FORBIDDEN
    assert before["reader", "wrong password"] == httpx.codes.UNAUTHORIZED
