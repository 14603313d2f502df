"""Servers that stay after the command that started them: what `trackbench servers up` leaves and `down` ends.

Each has a state file (mode 0600: it holds the password). It is up as long as its supervisor holds the lock in its
folder, so that a state file left by a crash is seen for what it is.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.servers import catalogue, databases, places
from bench.servers.base import KINDS, Echo, Kind, ServerFailed
from bench.servers.supervise import LOCK

DATABASE = "mlflow"
_STOP_SECONDS = 90.0


@dataclass(frozen=True)
class Standing:
    """A server that stays."""

    asked_for: Kind
    kind: Kind  # what it really is
    source: str
    version: str
    host: str
    port: int
    user: str
    url: str  # with the password
    pid: int
    supervisor_pid: int
    folder: str

    @property
    def is_up(self) -> bool:
        """Whether its supervisor lives."""
        return places.is_held(Path(self.folder) / LOCK)

    def public(self) -> dict[str, object]:
        """What may be shown anywhere: all but the address with the password; where that stands."""
        shown = {name: value for name, value in asdict(self).items() if name != "url"}
        return {**shown, "state_file": str(state_file(self.asked_for))}


def state_file(kind: Kind) -> Path:
    """Where the state of the standing server of `kind` is kept."""
    return _folder() / f"{kind}.json"


def standing() -> list[Standing]:
    """The servers that are up now."""
    return [found for kind in KINDS if (found := find(kind)) is not None]


def find(kind: Kind) -> Standing | None:
    """The standing server that was asked for as `kind`; None if it is not up."""
    try:
        found = Standing(**json.loads(state_file(kind).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return found if found.is_up else None


def up(kind: Kind, echo: Echo, settings: Mapping[str, str] | None = None) -> Standing:
    """Start a server that stays, with an empty database `mlflow`; the one that is up already if there is one."""
    with places.locked(_folder() / f"{kind}.lock", lambda: echo(f"{kind}: another process works on it, waiting")):
        found = find(kind)
        if found is not None:
            if settings:
                echo(f"{kind}: is up already and keeps its settings")
            return found
        server = catalogue.start(kind, settings, echo)
        try:
            databases.create(server, DATABASE)
            state = Standing(
                asked_for=kind,
                kind=server.kind,
                source=server.source,
                version=server.version,
                host=server.host,
                port=server.port,
                user=server.user,
                url=server.url(DATABASE),
                pid=server.pid,
                supervisor_pid=server.supervisor_pid,
                folder=str(server.folder),
            )
            _write(state_file(kind), json.dumps(asdict(state), indent=2) + "\n")
            server.detach()  # only now: if we are killed before, nothing stays
        except BaseException:
            state_file(kind).unlink(missing_ok=True)
            server.stop()
            raise
        return state


def down(kind: Kind) -> bool:
    """Stop the standing server of `kind` and remove its data; whether there was one."""
    found = find(kind)
    if found is not None:
        with suppress(ProcessLookupError):
            os.kill(found.supervisor_pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        while found.is_up:
            if time.monotonic() > deadline:
                raise ServerFailed(f"{kind} did not stop in {_STOP_SECONDS:.0f} s: process {found.supervisor_pid}")
            time.sleep(0.05)
        places.remove_folder(Path(found.folder))
    state_file(kind).unlink(missing_ok=True)
    return found is not None


def _folder() -> Path:
    folder = places.cache_dir() / "run"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _write(path: Path, text: str) -> None:
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)
