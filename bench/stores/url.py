"""Store URLs: MLflow's own backend-store URIs, and ``timescaledb://``, which is ours. Translated here only."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from bench.errors import BadInput

STORE_OF_SCHEME = {
    "sqlite": "sqlite",
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "timescaledb": "timescaledb",
    "mysql": "mysql",
    "mariadb": "mariadb",
}
_FORMS = "sqlite:///file.db, postgresql://user:password@host/db, timescaledb://…, mysql+pymysql://…"
_DEFAULT_PORT = {"postgresql": 5432, "timescaledb": 5432, "mysql": 3306, "mariadb": 3306}


@dataclass(frozen=True)
class StoreUrl:
    """A parsed store URL. ``str()`` hides the password; `mlflow` gives what MLflow must be told."""

    store: str
    path: Path | None = None
    host: str = ""
    port: int = 0
    user: str = ""
    password: str = ""
    database: str = ""
    options: tuple[tuple[str, str], ...] = ()

    @property
    def mlflow(self) -> str:
        """The URI for MLflow itself, with the password: never print it, never put it on a command line."""
        if self.path is not None:
            return f"sqlite:///{self.path}"
        scheme = "mysql+pymysql" if self.store in ("mysql", "mariadb") else "postgresql+psycopg2"
        return self._text(scheme, self.password)

    def with_database(self, database: str) -> "StoreUrl":
        """The same server, another database."""
        return StoreUrl(self.store, self.path, self.host, self.port, self.user, self.password, database, self.options)

    def __str__(self) -> str:
        return f"sqlite:///{self.path}" if self.path is not None else self._text(self.store, "***")

    def _text(self, scheme: str, password: str) -> str:
        secret = f":{quote(password, safe='*')}" if password else ""
        login = f"{quote(self.user, safe='')}{secret}@" if self.user else ""
        query = "?" + "&".join(f"{name}={quote(value)}" for name, value in self.options) if self.options else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{login}{host}:{self.port}/{quote(self.database, safe='')}{query}"


def parse(text: str, store: str | None = None) -> StoreUrl:
    """Parse a store URL; ``store`` is the name it was given for (``--store timescaledb=postgresql://…``).

    Raises:
        BadInput: the text is no URL of a known store; the message never repeats a password.
    """
    shown = re.sub(r"://([^:/@]*):[^@]*@", r"://\1:***@", text)
    scheme, separator, _ = text.partition("://")
    base = scheme.partition("+")[0].lower()
    if not separator or base not in STORE_OF_SCHEME:
        raise BadInput(f"store URL {shown!r}: unknown scheme {scheme!r}; write {_FORMS}")
    meant = store or STORE_OF_SCHEME[base]
    _check_family(shown, STORE_OF_SCHEME[base], meant)
    if base == "sqlite":
        path = text.partition(":///")[2]
        if not path or path == ":memory:":
            raise BadInput(f"store URL {shown!r}: names no file; write sqlite:///relative.db or sqlite:////absolute.db")
        return StoreUrl("sqlite", path=Path(path).resolve())
    try:
        parts = urlsplit(text)
        port = parts.port or _DEFAULT_PORT[meant]
    except ValueError as error:
        raise BadInput(f"store URL {shown!r}: {error}; write {_FORMS}") from error
    database = unquote(parts.path.lstrip("/"))
    if not parts.hostname or not database:
        missing = "database" if parts.hostname else "host"
        raise BadInput(f"store URL {shown!r}: names no {missing}; write {_FORMS}")
    return StoreUrl(
        meant,
        host=parts.hostname,
        port=port,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=database,
        options=tuple(parse_qsl(parts.query)),
    )


def from_option(name: str, value: str) -> StoreUrl:
    """The URL of ``--store name=value``; ``env:VAR`` reads it from the environment.

    Raises:
        BadInput: the variable is not set, or the URL is not one.
    """
    if value.startswith("env:"):
        variable = value.removeprefix("env:")
        found = os.environ.get(variable)
        if not found:
            raise BadInput(f"--store {name}=env:{variable}: {variable} is not set; export it with the store's URL")
        value = found
    return parse(value, name)


def _check_family(shown: str, found: str, meant: str) -> None:
    families = ({"sqlite"}, {"postgresql", "timescaledb"}, {"mysql", "mariadb"})
    if not any(found in family and meant in family for family in families):
        raise BadInput(f"store URL {shown!r}: this is a {found} URL, given for store {meant!r}; give one that fits")
