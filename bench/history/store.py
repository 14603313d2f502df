"""The way to an MLflow tracking store: what a URI means, whether it can be used, and MLflow's own client on it.

MLflow is imported here only, and late: it takes a second, logs, warns, prints links and would report usage.
"""

import asyncio
import ipaddress
import logging
import os
import re
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit, urlunsplit

from bench.errors import BadInput
from bench.stores import schema
from bench.stores.url import from_environment, hide_password

_FORMS: Final = "write http://HOST:PORT, sqlite:///file.db, postgresql://…, mysql+pymysql://…, or a folder"
_DRIVERS: Final = {
    "sqlite": "sqlite",
    "postgres": "postgresql+psycopg2",
    "postgresql": "postgresql+psycopg2",
    "timescaledb": "postgresql+psycopg2",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
}
"""The drivers that come with Trackbench, for URIs that name none."""
_CONNECT_S: Final = 10
_ENVIRONMENT: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ALLOW_FILE_STORE": "true",  # a folder is only used where the user names one
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # its default tries for four minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


@dataclass(frozen=True)
class Address:
    """A tracking store. ``str()`` hides the password; ``uri`` is MLflow's own, without a login if it is HTTP.

    ``kind`` is http, sqlite, database or folder.
    """

    kind: str
    uri: str = field(repr=False)
    shown: str
    path: Path | None = None
    login: dict[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        return self.shown

    @property
    def is_here(self) -> bool:
        """Whether the server's files may be this machine's."""
        host = urlsplit(self.uri).hostname or ""
        with suppress(ValueError):
            return ipaddress.ip_address(host).is_loopback
        return host == "localhost"

    def scrubbed(self, error: object) -> str:
        """What an error says, on one line and without a password."""
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        text = lines[0] if lines else type(error).__name__
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text if len(text) <= 300 else f"{text[:299]}…"


def address(text: str) -> Address:
    """What ``--track`` means; ``env:VAR`` reads it from the environment.

    Raises:
        BadInput: it is no tracking URI; the message never repeats a password.
    """
    uri = from_environment("--track", text).strip()
    scheme, separator, rest = uri.partition("://")
    base, _, driver = scheme.lower().partition("+")
    if not uri:
        raise BadInput(f"--track: empty; {_FORMS}")
    if not separator:
        return _folder(Path(uri), uri)
    if base in ("http", "https"):
        return _http(uri)
    if base == "file":
        return _folder(Path(unquote(urlsplit(uri).path)), uri)
    if base not in _DRIVERS:
        raise BadInput(f"--track {hide_password(uri)}: unknown scheme {scheme!r}; {_FORMS}")
    if base == "sqlite":
        name = rest.removeprefix("/")
        if not rest.startswith("/") or not name or "?" in name or name == ":memory:":
            raise BadInput(f"--track {uri}: names no file; write sqlite:///relative.db or sqlite:////absolute.db")
        path = Path(name).absolute()
        return Address("sqlite", f"sqlite:///{path}", f"sqlite:///{path}", path)
    named = f"{base}+{driver}" if driver and base in ("postgresql", "mysql") else _DRIVERS[base]
    return Address("database", f"{named}://{rest}", hide_password(uri), secrets=_secrets(uri))


def shown(text: str) -> str:
    """A tracking store as it may be printed.

    Raises:
        BadInput: as for `address`.
    """
    return str(address(text))


def _http(uri: str) -> Address:
    from bench.rest import site_of

    site_of(uri)  # its errors are ours
    parts = urlsplit(uri)
    plain = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
    login = {}
    if parts.username:  # the client is told by environment: a login in its URI would stand in its messages
        login["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
    if parts.password:
        login["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password)
    return Address("http", plain, plain, login=login, secrets=_secrets(uri))


def _folder(path: Path, shown: str) -> Address:
    if ":" in shown.partition("/")[0].removeprefix("file:"):
        said = "" if "@" in shown else f" {shown}"  # it may hold a password
        raise BadInput(f"--track{said}: neither a URI nor a folder; {_FORMS}")
    whole = path.absolute()
    return Address("folder", whole.as_uri(), str(whole), whole)


def _secrets(uri: str) -> tuple[str, ...]:
    """The passwords, of the login and of the query, in every way that they may be written; the longest first."""
    with suppress(ValueError):
        parts = urlsplit(uri)
        asked = [value for name, value in parse_qsl(parts.query) if "pass" in name.lower()]
        written = [parts.password] if parts.password else []
        plain = [*asked, *map(unquote, written)]
        found = {*written, *plain, *(quote(one, safe="") for one in plain)}
        return tuple(sorted({uri, *found}, key=len, reverse=True)) if found else ()
    return (uri,) if "@" in uri else ()


def check(to: Address) -> None:
    """See that a tracking store can be used, without writing anything. MLflow itself is not loaded.

    Raises:
        BadInput: nothing is there, it is not MLflow's, of another version, or not to be written to.
    """
    if to.kind == "http":
        _check_server(to)
    elif to.kind == "folder":
        _check_writable(to, to.path or Path())
    else:
        if to.path is not None:
            _check_file(to, to.path)
        _check_revision(to, _revision(to))


def _check_server(to: Address) -> None:
    from bench.rest import Rest, site_of

    site = site_of(to.uri, os.environ | to.login)

    async def ask() -> None:
        async with Rest(site.url, site.headers) as rest:
            await rest.identify()

    try:
        asyncio.run(ask())
    except BadInput as error:
        raise BadInput(f"--track {error}") from error


def _check_writable(to: Address, path: Path) -> None:
    existing = next(each for each in (path, *path.parents) if each.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        reason = "can't be written to" if existing.is_dir() else "is not a folder"
        raise BadInput(f"--track {to}: {existing} {reason}; name another place")


def _check_file(to: Address, path: Path) -> None:
    _check_writable(to, path.parent)
    if path.exists() and not (path.is_file() and os.access(path, os.R_OK | os.W_OK)):
        raise BadInput(f"--track {to}: not a file that can be read and written; name another")


def _revision(to: Address) -> str | None:
    """The revision of MLflow's schema there; None where there is no such schema yet."""
    try:
        if to.path is not None:
            return _revision_of_file(to.path)
        return _revision_of_database(to.uri)
    except BadInput:
        raise
    except Exception as error:  # each driver has errors of its own
        raise BadInput(f"--track {to}: can't be opened ({to.scrubbed(error)}); mend the URI or start it") from None


def _revision_of_file(path: Path) -> str | None:
    if not path.exists() or path.stat().st_size == 0:
        return None
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=_CONNECT_S)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchall():
            return None
        found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(found[0]) if found else None


def _revision_of_database(uri: str) -> str | None:
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri, connect_args={"connect_timeout": _CONNECT_S}, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        if not sqlalchemy.inspect(connection).has_table("alembic_version"):
            return None
        found = connection.execute(sqlalchemy.text("SELECT version_num FROM alembic_version")).fetchone()
    return str(found[0]) if found else None


def _check_revision(to: Address, revision: str | None) -> None:
    if revision is None:  # MLflow makes its tables when it is first used
        return
    known = asyncio.run(schema.revisions())
    if revision == known.head:
        return
    how = "an older" if revision in known.known else "another"
    raise BadInput(
        f"--track {to}: its schema is of {how} MLflow than our {schema.mlflow_version()} (revision {revision}); "
        "log through its MLflow server, or bring it up to date with `mlflow db upgrade`"
    )


@contextmanager
def client(to: Address) -> Iterator[Any]:
    """MLflow's client on a tracking store, quiet, and without a trace in this process's logging and environment.

    Raises:
        BadInput: whatever MLflow raises inside, on one line, without a password.
    """
    with _quiet(_ENVIRONMENT | to.login):
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield MlflowClient(tracking_uri=to.uri, registry_uri=to.uri)
        except (MlflowException, SQLAlchemyError) as error:
            raise BadInput(f"--track {to}: MLflow says: {to.scrubbed(_plain(error))}") from None
        except BadInput:
            raise
        except Exception as error:  # alembic's, a proxy's answer: none of them may cost a run its results
            raise BadInput(f"--track {to}: {type(error).__name__}: {to.scrubbed(error)}") from None


def _plain(error: Exception) -> str:
    """MLflow's message without the SQL statement or the stack of causes behind it."""
    text = re.sub(r"^\((?:[\w.]+)\)\s*", "", str(error).strip())
    return re.split(r"\n\[SQL|\n\(Background", text)[0]


@contextmanager
def _quiet(environment: dict[str, str]) -> Iterator[None]:
    """No logs, no warnings, nothing on stdout; environment and loggers as they were, afterwards."""
    before = {name: os.environ.get(name) for name in environment}
    root, disabled = logging.getLogger(), logging.root.manager.disable
    handlers, level = list(root.handlers), root.level
    os.environ.update(environment)
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        root.handlers[:] = handlers
        root.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
