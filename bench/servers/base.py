"""The vocabulary of this package: kinds of server, what a source offers, and what a source is."""

from __future__ import annotations

import functools
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, get_args

from bench.errors import BadInput

if TYPE_CHECKING:
    from bench.servers.running import RunningServer

Kind = Literal["postgresql", "timescaledb", "mysql", "mariadb"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Echo = Callable[[str], None]
_VERSION = re.compile(r"\d+\.\d+\S*(?: \(\w+ \d\S*\))?")


class CannotInstall(BadInput):
    """A source could not get a server; another source may still do."""


class ServerFailed(BadInput):
    """A server did not start or stopped by itself; the message ends with its last log lines."""


@dataclass(frozen=True)
class Offer:
    """What one source has for one kind of server."""

    kind: Kind
    source: str  # "compose" | "prefix" | "wheel" | "path"
    ready: bool  # it can be started now, without a download
    version: str | None
    detail: str  # one line, for people
    remedy: str | None  # the one command that gets it, if it is not ready and there is one


class Source(Protocol):
    """One place that servers come from. Adding a place is adding one file with such a class."""

    name: str

    def offer(self, kind: Kind) -> Offer | None:
        """What this source has for `kind`; None when it never has that kind (here)."""

    def install(self, kind: Kind, echo: Echo) -> None:
        """Make `kind` ready. Does nothing if it is; raises CannotInstall. Safe to interrupt and to run twice."""

    def start(self, kind: Kind, folder: Path, settings: Mapping[str, str], disk_mb: int | None = None) -> RunningServer:
        """Start a private server in `folder`, which must not exist yet; raises ServerFailed.

        With `disk_mb` the folder is a disk of its own, of that many MiB: see `small_disks`.
        """


def as_kind(name: str) -> Kind:
    """`name` as a kind of server; BadInput if there is no such kind."""
    for kind in KINDS:
        if name == kind:
            return kind
    raise BadInput(f"no kind of server is called {name!r}: use one of {', '.join(KINDS)}")


def output_of(argv: Sequence[str | Path], *, timeout: float = 20, env: Mapping[str, str] | None = None) -> str:
    """What a short command prints; an empty string if it fails, is missing or takes too long."""
    try:
        done = subprocess.run(
            [str(part) for part in argv],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=None if env is None else dict(env),
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


@functools.cache
def binary_version(program: Path, library_path: str | None = None) -> str | None:
    """The version that a server program prints, with the distribution's part; None if it can't run."""
    env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
    if library_path:
        env["LD_LIBRARY_PATH"] = library_path
    printed = output_of([program, "--version"], env=env)
    return version_in(printed)


def version_in(printed: str) -> str | None:
    """The version in a `--version` line: `18.6 (Debian 18.6-3)`, `9.7.4-2`, `10.11.18-MariaDB-0+deb12u1`."""
    found = _VERSION.search(printed)
    return found[0] if found else None
