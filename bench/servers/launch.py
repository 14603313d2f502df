"""What a supervisor must do for one server, whatever its source: the plan, and the defaults of each kind."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.errors import BadInput
from bench.servers.base import Kind

USER = "trackbench"

_POSTGRESQL = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "jit": "off",
    "max_connections": "300",
    "shared_buffers": "256MB",
}
_MYSQL = {
    "innodb_flush_log_at_trx_commit": "1",
    "sync_binlog": "1",
    "max_connections": "300",
    "innodb_buffer_pool_size": "256M",
    "performance_schema": "ON",
}
_SMALL_POSTGRESQL = {"min_wal_size": "32MB", "max_wal_size": "64MB"}
# The settings that servers start with: durable, and the same duties for every store. `settings` overrides them.
DEFAULTS: Mapping[Kind, Mapping[str, str]] = {
    "postgresql": _POSTGRESQL,
    "timescaledb": {
        **_POSTGRESQL,
        "shared_preload_libraries": "timescaledb",
        "timescaledb.telemetry_level": "off",
    },
    # Empty: no TLS. PyMySQL would use it silently and aiomysql not, which skews the comparison.
    "mysql": {**_MYSQL, "tls-version": "", "mysqlx": "OFF"},
    # MariaDB keeps no binary log by itself; MySQL does, so both do the same work for a commit.
    "mariadb": {**_MYSQL, "ssl": "OFF", "log-bin": "binlog"},
}
# Laid over them on a small disk: what a server sets aside for its log would fill it by itself.
_SMALL: Mapping[Kind, Mapping[str, str]] = {
    "postgresql": _SMALL_POSTGRESQL,
    "timescaledb": _SMALL_POSTGRESQL,
    "mysql": {"innodb_redo_log_capacity": "16M"},
    "mariadb": {"innodb_log_file_size": "16M"},
}
# MiB of a small disk that does: a store with MLflow's schema takes 45 (PostgreSQL), 130 (MySQL) or 120 (MariaDB); there
# must be room for a log that grows (50), for what is prefilled and for a load of seconds.
SMALL_DISK_MB: Mapping[Kind, int] = {"postgresql": 192, "timescaledb": 192, "mysql": 256, "mariadb": 256}
# What keeps a server private to this machine and found where we look. Nobody may override it.
FIXED = frozenset(
    [
        *("listen_addresses", "port", "unix_socket_directories", "data_directory", "hba_file"),
        *("bind_address", "socket", "datadir", "basedir", "init_file", "user", "skip_grant_tables"),
    ]
)


def settings_for(kind: Kind, overrides: Mapping[str, str], *, small: bool = False) -> dict[str, str]:
    """The defaults of `kind` with `overrides` laid over them; `-` and `_` in MySQL's names mean the same.

    ``small``: the data are on a small disk, so its log gets less of it.
    """
    settings = {**DEFAULTS[kind], **(_SMALL[kind] if small else {})}
    known = {_plain(name): name for name in settings}
    for name, value in overrides.items():
        if _plain(name) in FIXED:
            raise BadInput(f"setting {name!r}: servers of ours listen on loopback only, it can't be changed")
        if not name or not all(letter.isalnum() or letter in "._-" for letter in name):
            raise BadInput(f"setting {name!r} of {kind}: that is not a setting's name")
        settings[known.get(_plain(name), name)] = value
    return settings


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


@dataclass(frozen=True)
class Launch:
    """How to prepare, start and stop one server. `serve` gives the command and environment for a port."""

    serve: Callable[[int], tuple[list[str], dict[str, str]]]
    prepare: Sequence[Sequence[str]] = ()
    files: Mapping[str, str] = field(default_factory=dict)  # written into the folder, mode 0600
    env: Mapping[str, str] = field(default_factory=dict)
    after: Sequence[Sequence[str]] = ()  # run when the server has stopped
    tidy: Sequence[str] = ()  # run at the end if the server was killed
    kill: Sequence[str] = ()  # besides SIGKILL to the child
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 30.0
    # What the server gets if its supervisor is killed: it can't be cleaned up by then.
    death_signal: signal.Signals = signal.SIGKILL
    as_server_user: bool = True  # as root: become an unprivileged user first
    disk_mb: int | None = None  # the folder is a disk of its own, of that many MiB
    untouchable: str | None = None  # why its processes must not be stopped or frozen, if so

    def plan(self, folder: Path, owner: tuple[int, int] | None) -> dict[str, object]:
        """The plan as the supervisor reads it."""
        uid, gid = owner if owner and self.as_server_user else (None, None)
        return {
            "folder": str(folder),
            "uid": uid,
            "gid": gid,
            "files": dict(self.files),
            "env": dict(self.env),
            "prepare": [list(argv) for argv in self.prepare],
            "after": [list(argv) for argv in self.after],
            "tidy": list(self.tidy),
            "kill": list(self.kill),
            "stop_signal": int(self.stop_signal),
            "stop_seconds": self.stop_seconds,
            "death_signal": int(self.death_signal),
            "disk_mb": self.disk_mb,
        }


def clean_env(folder: Path, **more: str) -> dict[str, str]:
    """The whole environment of a server: nothing of the caller's own gets in."""
    return {"PATH": "/usr/bin:/bin", "HOME": str(folder), "TZ": "UTC", "LC_ALL": "C", **more}
