"""Store URLs: MLflow's own backend-store URIs, and ``timescaledb://``, which is ours. Translated here only."""

import os
import ssl
from dataclasses import dataclass, field
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
_OPTIONS = {
    "postgresql": ("sslmode", "sslrootcert"),
    "timescaledb": ("sslmode", "sslrootcert"),
    "mysql": ("charset", "ssl_ca"),
    "mariadb": ("charset", "ssl_ca"),
}  # what the direct drivers honour as MLflow's do; anything else would be ignored by one of them
_AUTHORITY = ("sslrootcert", "ssl_ca")  # a file with the certificates of those who may vouch for the server
_VERIFYING = ("verify-ca", "verify-full")
_DEFAULT_PORT = {"postgresql": 5432, "timescaledb": 5432, "mysql": 3306, "mariadb": 3306}


@dataclass(frozen=True)
class StoreUrl:
    """A parsed store URL. ``str()`` hides the password; `mlflow` gives what MLflow must be told."""

    store: str
    path: Path | None = None
    host: str = ""
    port: int = 0
    user: str = ""
    password: str = field(default="", repr=False)
    database: str = ""
    options: tuple[tuple[str, str], ...] = ()

    @property
    def mlflow(self) -> str:
        """The URI for MLflow itself, with the password: never print it, never put it on a command line."""
        if self.path is not None:
            return f"sqlite:///{self.path}"
        scheme = "mysql+pymysql" if self.store in ("mysql", "mariadb") else "postgresql+psycopg2"
        return self._text(scheme, self.password)

    @property
    def authority(self) -> str | None:
        """The file whose certificates vouch for the server, if the URL names one."""
        options = dict(self.options)
        return next((options[name] for name in _AUTHORITY if name in options), None)

    @property
    def verified(self) -> bool:
        """Whether both drivers go on only if the server proves, over TLS, that it is the one named here."""
        if self.store in ("mysql", "mariadb"):
            return self.authority is not None
        return dict(self.options).get("sslmode") == "verify-full"

    def __str__(self) -> str:
        return f"sqlite:///{self.path}" if self.path is not None else self._text(self.store, "***")

    def _text(self, scheme: str, password: str) -> str:
        secret = f":{quote(password, safe='*')}" if password else ""
        login = f"{quote(self.user, safe='')}{secret}@" if self.user else ""
        query = "?" + "&".join(f"{name}={quote(value)}" for name, value in self.options) if self.options else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{login}{host}:{self.port}/{quote(self.database, safe='')}{query}"


def hide_password(text: str) -> str:
    """``text`` without what may be a password: the login's up to the last ``@``, and the query."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        return text
    if "?" in rest.rpartition("@")[0]:  # a login's or a query's? in doubt nothing of either is shown
        return f"{scheme}://…"
    login, at, place = rest.rpartition("@")
    user = login.partition(":")[0]
    hidden = f"{user}:***@" if ":" in login else f"{user}@" if at else ""
    address, query, _ = place.partition("?")
    return f"{scheme}://{hidden}{address}{'?…' if query else ''}"


def parse(text: str, store: str | None = None) -> StoreUrl:
    """Parse a store URL; ``store`` is the name it was given for (``--store timescaledb=postgresql://…``).

    Raises:
        BadInput: the text is no URL of a known store; the message never repeats a password.
    """
    scheme, separator, _ = text.partition("://")
    base = scheme.partition("+")[0].lower()
    if not separator:
        raise BadInput(f"store URL without ://: unknown scheme; write {_FORMS}")
    shown = hide_password(text)
    if base not in STORE_OF_SCHEME:
        raise BadInput(f"store URL {shown!r}: unknown scheme {scheme!r}; write {_FORMS}")
    meant = store or STORE_OF_SCHEME[base]
    _check_family(shown, STORE_OF_SCHEME[base], meant)
    if base == "sqlite":
        return _sqlite(text, shown)
    try:
        parts = urlsplit(text)
        port = parts.port or _DEFAULT_PORT[meant]
    except ValueError as error:  # its own message may repeat the password
        raise BadInput(f"store URL {shown!r}: not a URL (percent-encode the password); write {_FORMS}") from error
    database = unquote(parts.path.lstrip("/"))
    if not parts.hostname or not database:
        missing = "database" if parts.hostname else "host"
        raise BadInput(f"store URL {shown!r}: names no {missing}; write {_FORMS}")
    options = tuple(parse_qsl(parts.query, keep_blank_values=True))
    for name, value in options:
        if name not in _OPTIONS[meant]:
            allowed = ", ".join(_OPTIONS[meant])
            raise BadInput(f"store URL {shown!r}: direct connections know no option {name!r}; only {allowed}")
        if name == "charset" and value.lower() != "utf8mb4":
            raise BadInput(f"store URL {shown!r}: with charset={value} MySQL gives ? for some characters; leave it out")
    options = _with_authority(shown, options)
    return StoreUrl(
        meant,
        host=parts.hostname,
        port=port,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=database,
        options=options,
    )


def _with_authority(shown: str, options: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """``options`` with the path of the authority's file made absolute, since children have folders of their own.

    Raises:
        BadInput: it is no file of certificates, or the drivers would not use it.
    """
    given = dict(options)
    mode = given.get("sslmode", "prefer")
    if "sslrootcert" in given and mode not in _VERIFYING:
        raise BadInput(f"store URL {shown!r}: sslrootcert without verification; add sslmode=verify-full")
    for name in _AUTHORITY:
        if name in given:
            path = Path(given[name]).expanduser().resolve()
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
            except (OSError, ValueError) as error:  # of TLS's own errors too
                why = "no such file" if isinstance(error, FileNotFoundError) else "can't be read as certificates"
                raise BadInput(f"store URL {shown!r}: {name}: {why}; give the authority's certificate (PEM)") from error
            given[name] = str(path)
    return tuple(given.items())


def _sqlite(text: str, shown: str) -> StoreUrl:
    path = text.partition(":///")[2]
    if not path or path == ":memory:" or "?" in path:
        raise BadInput(f"store URL {shown!r}: names no file; write sqlite:///relative.db or sqlite:////absolute.db")
    return StoreUrl("sqlite", path=Path(path).resolve())


def from_option(name: str, value: str) -> StoreUrl:
    """The URL of ``--store name=value``; ``env:VAR`` reads it from the environment.

    Raises:
        BadInput: the variable is not set, or the URL is not one.
    """
    return parse(from_environment(f"--store {name}", value), name)


def from_environment(option: str, value: str) -> str:
    """``value``, or what the environment holds where it is ``env:VAR``.

    Raises:
        BadInput: the variable is not set.
    """
    if not value.startswith("env:"):
        return value
    variable = value.removeprefix("env:")
    found = os.environ.get(variable)
    if not found:
        raise BadInput(f"{option}=env:{variable}: {variable} is not set; export it with the URL")
    return found


def _check_family(shown: str, found: str, meant: str) -> None:
    families = ({"sqlite"}, {"postgresql", "timescaledb"}, {"mysql", "mariadb"})
    if not any(found in family and meant in family for family in families):
        raise BadInput(f"store URL {shown!r}: this is a {found} URL, given for store {meant!r}; give one that fits")
