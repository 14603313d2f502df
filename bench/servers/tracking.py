"""A real `mlflow server` on a store: started, waited for, measured and ended; its errors counted by our hooks.

The command is MLflow's own. The store's URI and all secrets go by environment only. Everything that it writes
(artifacts, users, log) is in one private folder, which goes with it.
"""

from __future__ import annotations

import base64
import re
import secrets
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import httpx
import psutil

from bench.errors import BadInput
from bench.servers import places
from bench.servers.base import Echo, ServerFailed
from bench.servers.launch import Launch, clean_env
from bench.servers.supervise import LOG
from bench.servers.supervised import HOST, Supervised
from bench.servers.tracking_hooks import COUNT, ERRORS_VARIABLE, UNDER_WAY
from bench.site import Site

ADMIN = "trackbench"
_ERRORS = "errors"
_PROBE_SECONDS = 2.0
_STARTED = b"Application startup complete."  # uvicorn says it once a worker
_RETRIED = b"SQLAlchemy engine could not be created."
_MOST_RETRIES = 5  # MLflow tries ten times in 100 s; after five, 3 s have passed
_DEFAULT_POOL = (5, 10)  # SQLAlchemy's own


@dataclass(frozen=True)
class TrackingSettings:
    """How the tracking server runs. None: MLflow's default (a pool of 5, 10 more at need, for each worker).

    ``artifact_root`` is where new experiments keep artifacts; None: served by the server from its private folder.
    ``trace_rollups`` must be said of a store that has any, or MLflow does not start; the jobs that make them never run.
    """

    workers: int = 4
    pool_size: int | None = None
    max_overflow: int | None = None
    authentication: bool = False
    artifact_root: str | None = None
    trace_rollups: bool = False

    def __post_init__(self) -> None:
        """Refuse what MLflow would pass over in silence."""
        for name, value in (("workers", self.workers), ("pool_size", self.pool_size)):
            if value is not None and value < 1:
                raise BadInput(f"tracking server: {name} is {value}; give 1 or more")
        if self.max_overflow is not None and self.max_overflow < 1:
            raise BadInput(
                f"tracking server: max_overflow is {self.max_overflow}, which MLflow takes for its default (10); "
                "give 1 or more"
            )

    @property
    def connections(self) -> int:
        """The most database connections that all workers together may open."""
        size, overflow = _DEFAULT_POOL
        return self.workers * ((self.pool_size or size) + (self.max_overflow or overflow))

    def __str__(self) -> str:
        """As reports show it."""
        size, overflow = _DEFAULT_POOL
        pool = f"pool {self.pool_size or size}+{self.max_overflow or overflow}"
        workers = f"{self.workers} worker{'s' if self.workers > 1 else ''}"
        return f"{workers}, {pool} each, authentication {'on' if self.authentication else 'off'}"


def _silent(_line: str) -> None:
    """Say nothing."""


def start(
    store_uri: str, settings: TrackingSettings | None = None, echo: Echo = _silent, *, counted: bool = True
) -> RunningTracking:
    """Start `mlflow server` on a store; returns when every worker serves.

    ``store_uri`` is MLflow's own, password included. ``counted`` puts our hooks in. Blocks: seconds on an idle machine,
    up to a minute on a busy one.

    Raises:
        ServerFailed: it died or never answered; one line with its last words.
    """
    settings = settings or TrackingSettings()
    echo(f"starting MLflow's tracking server: {settings}")
    began = time.monotonic()
    server = RunningTracking(store_uri, settings, counted)
    echo(f"MLflow {server.version} serves at {server.url} after {time.monotonic() - began:.1f} s")
    return server


class RunningTracking(Supervised):
    """A tracking server of ours. Use it as a context manager, or call `stop()`.

    ``headers`` are what every request must carry: the login, if there is one. ``version`` is MLflow's.
    """

    ready_seconds = 120.0
    ready_means = "never answered /health"

    def __init__(self, store_uri: str, settings: TrackingSettings, counted: bool) -> None:
        self.settings = settings
        self.counted = counted
        self.version = ""
        folder = places.new_folder("tracking")
        password, key = secrets.token_urlsafe(24), secrets.token_hex(24)
        self.headers: dict[str, str] = {}
        if settings.authentication:
            login = base64.b64encode(f"{ADMIN}:{password}".encode()).decode()
            self.headers = {"Authorization": f"Basic {login}"}
        self._secrets = [password, key, *_passwords(store_uri)]
        self._errors: Counter[str] = Counter()
        self._errors_read = 0
        self._workers_seen = 0
        self._log_begin = 0
        self._client = httpx.Client(timeout=_PROBE_SECONDS, trust_env=False)
        launch = _launch(store_uri, settings, folder, password, key, counted)
        super().__init__("mlflow server", f"MLflow on {_scheme(store_uri)}", launch, folder)

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return f"http://{HOST}:{self.port}"

    @property
    def site(self) -> Site:
        """Its address and login as users take them."""
        return Site(self.url, dict(self.headers), self.counted)

    def pids(self) -> list[int]:
        """All of its processes: the command, uvicorn's parent, the workers."""
        return [process.pid for process in self._processes()]

    def cpu_seconds(self) -> float:
        """Processor time that its living processes have used, in user and kernel mode."""
        total = 0.0
        for process in self._processes():
            with suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def log_size(self) -> int:
        """Bytes of its log so far: an offset for `log_since`."""
        with suppress(OSError):
            return (self.folder / LOG).stat().st_size
        return 0

    def log_since(self, offset: int) -> str:
        """Its log from this offset on, without any password; empty once it was stopped."""
        return self._scrubbed(_bytes_since(self.folder / LOG, offset).decode(errors="replace"))

    def errors(self) -> Counter[str]:
        """Database errors and pool timeouts by label (`ErrorKind.label`) since its start, over all workers."""
        with self._lock:
            fresh = _bytes_since(self.folder / _ERRORS, self._errors_read)
            whole = fresh[: fresh.rfind(b"\n") + 1]
            self._errors_read += len(whole)
            self._errors.update(whole.decode().split())
            return Counter(self._errors)

    def under_way(self) -> int:
        """Requests that its living workers serve now, those of clients that are gone among them."""
        total = 0
        for pid in self.pids():
            with suppress(OSError):
                total += COUNT.unpack((self.folder / f"{_ERRORS}{UNDER_WAY}{pid}").read_bytes())[0]
        return total

    def stop(self) -> None:
        """Stop the server and remove its folder. Does no harm when repeated."""
        super().stop()  # first: another thread may be waiting for its answer
        self._client.close()

    # -- starting -----------------------------------------------------------------------------------------

    def _serve(self, port: int) -> None:
        self._log_begin, self._workers_seen = self.log_size(), 0
        super()._serve(port)

    def _answers(self, within_s: float) -> bool:
        """Every worker is up, /health answers, and it is ours that does: the port may have been taken meanwhile."""
        said = _bytes_since(self.folder / LOG, self._log_begin)
        if said.count(_RETRIED) >= _MOST_RETRIES:
            raise ServerFailed(f"{self.label} ({self.source}) can't reach its store: {self._last_words(said)}")
        if said.count(_STARTED) < self.settings.workers:
            return False
        try:
            limit = min(_PROBE_SECONDS, within_s)
            if (
                self._client.get(f"{self.url}/health", timeout=limit).status_code != httpx.codes.OK
                or not self._listens()
            ):
                return False
            self.version = self._client.get(f"{self.url}/version", headers=self.headers, timeout=limit).text.strip()
        except httpx.HTTPError:
            return False
        return True

    def _listens(self) -> bool:
        for process in self._processes():
            with suppress(psutil.Error):
                for socket in process.net_connections("tcp"):
                    if socket.status == psutil.CONN_LISTEN and socket.laddr[1] == self.port:
                        return True
        return False

    def _processes(self) -> list[psutil.Process]:
        try:
            command = psutil.Process(self.pid)
            return [command, *command.children(recursive=True)]
        except psutil.Error:
            return []

    def _last_words(self, said: bytes) -> str:
        lines = [line for line in said.decode(errors="replace").splitlines() if "Error" in line]
        return self._scrubbed(lines[-1].strip()) if lines else "nothing"

    def _failure(self, event: object) -> ServerFailed:
        return ServerFailed(self._scrubbed(str(super()._failure(event))))  # type: ignore[arg-type]

    def _scrubbed(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def _launch(store_uri: str, settings: TrackingSettings, folder: Path, password: str, key: str, counted: bool) -> Launch:
    more = {
        "TMPDIR": str(folder),
        "PYTHONPATH": str(Path(__file__).with_name("tracking_hooks")),
        "MLFLOW_BACKEND_STORE_URI": store_uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    if settings.pool_size is not None:
        more["MLFLOW_SQLALCHEMYSTORE_POOL_SIZE"] = str(settings.pool_size)
    if settings.max_overflow is not None:
        more["MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW"] = str(settings.max_overflow)
    if settings.trace_rollups:
        more["MLFLOW_SQL_TRACE_ROLLUPS_ENABLED"] = "true"
    if settings.authentication:
        more["MLFLOW_FLASK_SERVER_SECRET_KEY"] = key
        more["MLFLOW_AUTH_ADMIN_USERNAME"] = ADMIN
        more["MLFLOW_AUTH_ADMIN_PASSWORD"] = password
    if counted:
        more[ERRORS_VARIABLE] = str(folder / _ERRORS)

    def serve(port: int) -> tuple[list[str], dict[str, str]]:
        argv = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port)]
        argv += ["--workers", str(settings.workers), "--artifacts-destination", str(folder / "artifacts")]
        if settings.artifact_root is not None:
            argv += ["--default-artifact-root", settings.artifact_root]
        if settings.authentication:
            argv += ["--app-name", "basic-auth"]  # its users are in basic_auth.db, in the current folder: ours
        return argv, {}

    return Launch(
        serve=serve,
        env=clean_env(folder, **more),
        stop_seconds=10.0,  # it waits for requests, and one may be waiting for a lock
        as_server_user=False,  # the store may be a file of ours
    )


def _scheme(uri: str) -> str:
    return re.split(r"[+:]", uri, maxsplit=1)[0]


def _passwords(uri: str) -> list[str]:
    """The password of a URI in every way that it may be written."""
    with suppress(ValueError):
        written = urlsplit(uri).password
        if written:
            plain = unquote(written)
            return sorted({uri, written, plain, quote(plain, safe="")}, key=len, reverse=True)
    return []


def _bytes_since(path: Path, offset: int) -> bytes:
    with suppress(OSError), path.open("rb") as file:
        file.seek(offset)
        return file.read()
    return b""
