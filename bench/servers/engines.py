"""How each engine is initialised and served from its binaries, wherever those come from."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bench.servers.base import Kind
from bench.servers.launch import USER, Launch, clean_env, settings_for
from bench.servers.running import HOST, RunningServer

_PASSWORD_FILE = "password"
_INIT_FILE = "init.sql"
_REDO = "innodb_redo_log_capacity"


@dataclass(frozen=True)
class Programs:
    """The binaries of one engine."""

    kind: Kind
    server: Path  # postgres, mysqld or mariadbd
    base: Path | None = None  # what MySQL calls basedir, where it differs from the one compiled in
    library_path: str | None = None  # for binaries that can't find their own libraries

    @property
    def folder(self) -> Path:
        """Where the server and its tools lie."""
        return self.server.parent


def start(
    source: str, programs: Programs, folder: Path, overrides: Mapping[str, str], disk_mb: int | None = None
) -> RunningServer:
    """Start a server with a new random password; returns when it can be logged in to."""
    password = secrets.token_urlsafe(18)
    settings = settings_for(programs.kind, overrides, small=disk_mb is not None)
    if programs.kind in ("postgresql", "timescaledb"):
        launch = _postgresql(programs, folder, settings, password)
    else:
        launch = _mysql(programs, folder, settings, password)
    return RunningServer(programs.kind, source, replace(launch, disk_mb=disk_mb), folder, password)


def _env(programs: Programs, folder: Path) -> dict[str, str]:
    env = clean_env(folder)
    env["PATH"] = f"{programs.folder}:{env['PATH']}"
    if programs.library_path:
        env["LD_LIBRARY_PATH"] = programs.library_path
    return env


def _postgresql(programs: Programs, folder: Path, settings: Mapping[str, str], password: str) -> Launch:
    data = folder / "data"
    initialise = [str(programs.folder / "initdb"), "-D", str(data), f"--username={USER}"]
    initialise += ["--auth=scram-sha-256", f"--pwfile={folder / _PASSWORD_FILE}"]
    # The C locale is in every build, so that no source sorts or compares text differently from another.
    initialise += ["--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]

    def serve(port: int) -> tuple[list[str], dict[str, str]]:
        # No Unix socket: its path has a length limit, and MLflow's clients use TCP.
        private = {"port": str(port), "listen_addresses": HOST, "unix_socket_directories": ""}
        argv = [str(programs.server), "-D", str(data)]
        for name, value in {**settings, **private}.items():
            argv += ["-c", f"{name}={value}"]
        return argv, {}

    return Launch(
        serve=serve,
        prepare=[initialise],
        files={_PASSWORD_FILE: password + "\n"},
        env=_env(programs, folder),
        tidy=[str(programs.server), "--single", "-D", str(data), "template1"],
        stop_signal=signal.SIGINT,  # "fast": ends sessions, then writes a checkpoint
        death_signal=signal.SIGQUIT,  # "immediate": unlike SIGKILL it leaves no shared memory behind
    )


def _mysql(programs: Programs, folder: Path, settings: Mapping[str, str], password: str) -> Launch:
    data = folder / "data"
    common = ["--no-defaults", f"--datadir={data}"]
    if programs.base:
        common.append(f"--basedir={programs.base}")
    if programs.kind == "mariadb":
        installer = programs.server.parent.parent / "bin" / "mariadb-install-db"
        # By socket: the other method also makes a root who comes in over TCP without a password.
        private = ["--auth-root-authentication-method=socket", "--skip-test-db", "--skip-name-resolve"]
        initialise = [str(installer), *common, *private]
    else:
        common.append("--secure-file-priv=NULL")  # Debian's build wants a folder in /var/lib
        initialise = [str(programs.server), *common, "--initialize-insecure"]
        if _REDO in settings:  # else it begins with 100 MB, more than a small disk has to spare
            initialise.append(f"--{_REDO}={settings[_REDO]}")

    def serve(port: int) -> tuple[list[str], dict[str, str]]:
        argv = [str(programs.server), *common, f"--port={port}", f"--bind-address={HOST}"]
        # A relative path: that of a socket has a length limit, that of the folder has none.
        argv += ["--socket=mysql.sock", f"--pid-file={folder / 'pid'}", f"--tmpdir={folder}"]
        argv += ["--skip-name-resolve", f"--init-file={folder / _INIT_FILE}"]
        argv += [f"--{name}={value}" for name, value in settings.items()]
        return argv, {}

    return Launch(
        serve=serve,
        prepare=[initialise],
        files={_INIT_FILE: _first_sql(password)},
        env=_env(programs, folder),
    )


def _first_sql(password: str) -> str:
    """One statement a line, run at every start before the first login: our user, and no other way in."""
    account = f"'{USER}'@'%'"  # the server listens on loopback only
    return (
        f"CREATE USER IF NOT EXISTS {account} IDENTIFIED BY '{password}';\n"
        f"GRANT ALL PRIVILEGES ON *.* TO {account} WITH GRANT OPTION;\n"
        "ALTER USER 'root'@'localhost' ACCOUNT LOCK;\n"
    )
