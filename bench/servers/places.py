"""Where prefixes, folders and locks live, who runs the servers, and which ports they get."""

from __future__ import annotations

import fcntl
import os
import pwd
import random
import secrets
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.errors import BadInput
from bench.servers.supervise import LOCK

PORTS = range(20000, 32768)  # from 32768 on, ports are ephemeral: a client may hold any of them
FOLDER_PREFIX = "trackbench-"
_UNPRIVILEGED = ("nobody", "daemon", "mail")
_STALE_AFTER_SECONDS = 5.0  # a new folder is older than its lock for an instant


def server_user() -> tuple[int, int] | None:
    """Who runs the servers when we are root (database servers refuse root); None: we run them ourselves."""
    if os.geteuid() != 0:
        return None
    for name in _UNPRIVILEGED:
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    raise BadInput("this machine has no unprivileged user to run database servers: create the user `nobody`")


def cache_dir() -> Path:
    """Where prefixes and state are kept, made if need be."""
    path = cache_place()
    try:
        make_public(path)
    except OSError as error:
        raise BadInput(f"the cache {path} can't be made ({error.strerror}): set TRACKBENCH_CACHE") from None
    if not reachable(path):
        raise BadInput(f"the servers' user can't reach the cache {path}: set TRACKBENCH_CACHE to a public folder")
    return path


def make_public(path: Path) -> None:
    """Make a folder, and those above it, that the servers' user can enter whatever our umask is."""
    missing = [part for part in (path, *path.parents) if not part.exists()]
    for part in reversed(missing):
        part.mkdir(exist_ok=True)
        part.chmod(0o755)


def cache_place() -> Path:
    """Where the cache is or would be."""
    if named := os.environ.get("TRACKBENCH_CACHE"):
        return Path(named).expanduser().absolute()
    if os.geteuid() == 0:  # root's home is closed to the servers' user
        return Path("/var/cache/trackbench")
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg) / "trackbench"
    return Path.home() / ".cache" / "trackbench"


def reachable(path: Path) -> bool:
    """Whether the user who runs the servers may enter `path`."""
    if server_user() is None:
        return os.access(path, os.X_OK)
    resolved = path.resolve()
    return all(_open_to_all(part) for part in (resolved, *resolved.parents))


def _open_to_all(path: Path) -> bool:
    with suppress(OSError):
        return bool(path.stat().st_mode & stat.S_IXOTH)
    return False


@contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock file `path`; calls `waiting` once if another process has it. Ends with the process."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def temp_root() -> Path:
    """The system's folder for short-lived files, one that the servers' user can reach."""
    for candidate in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        path = Path(candidate)
        if path.is_dir() and os.access(path, os.W_OK) and reachable(path):
            return path
    raise BadInput("no temporary folder is open to the user who runs the servers: set TMPDIR to one that is")


def new_folder(kind: str) -> Path:
    """A name for a server's private folder that does not exist yet (its supervisor makes it)."""
    remove_stale_folders()
    return temp_root() / f"{FOLDER_PREFIX}{kind}-{secrets.token_hex(4)}"


def remove_stale_folders() -> None:
    """Remove folders whose supervisor was killed: they have its lock file and nobody holds the lock."""
    for lock in temp_root().glob(f"{FOLDER_PREFIX}*/{LOCK}"):
        with suppress(OSError):
            if lock.lstat().st_uid != os.geteuid() or time.time() - lock.lstat().st_mtime < _STALE_AFTER_SECONDS:
                continue
            if not is_held(lock):
                shutil.rmtree(lock.parent, ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Remove what a supervisor left or is removing; a server that is dying at the same time may still write."""
    deadline = time.monotonic() + 10
    while folder.exists() and time.monotonic() < deadline:
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            time.sleep(0.05)


def is_held(lock: Path) -> bool:
    """Whether a living process holds the lock file; False if there is no such file."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def free_port(taken: Callable[[int], bool] | None = None, chooser: random.Random | None = None) -> int:
    """A loopback port that is free now; another process may still take it, so callers try again."""
    chooser = chooser or random.SystemRandom()
    taken = taken or _is_taken
    for port in chooser.sample(PORTS, 200):
        if not taken(port):
            return port
    raise BadInput(f"no free port on 127.0.0.1 between {PORTS.start} and {PORTS.stop - 1}")


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False
