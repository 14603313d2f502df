"""One small process beside each server: it starts it, waits for it, and cleans up when its owner is gone.

It runs as a script, uses the standard library only and talks JSON lines. On stdin comes first the plan
(see `Plan` in `launch.py`), then orders; on stdout go events:

    {"order": "start", "argv": […], "env": {…}}  ->  {"event": "started", "pid": N}
    {"order": "kill"}                            ->  {"event": "exited", "code": -9, "log": […]}
    {"order": "halt"}                            ->  {"event": "exited", …}: with the stop signal, its data stay
    {"order": "freeze"}, {"order": "thaw"}       ->  {"event": "frozen"}, {"event": "thawed"}
    {"order": "fill"}, {"order": "free"}         ->  {"event": "filled", "bytes": N}, {"event": "freed"}
    {"order": "stop"}                            ->  {"event": "stopped"}, and the process ends
    {"order": "detach"}                          ->  {"event": "detached"}

Before the first order it makes the folder and says {"event": "made"}, runs the plan's `prepare` commands and says
{"event": "prepared"}; or it says {"event": "failed", "what": …, "log": […]} and ends.

The end of stdin means that the owner ended, however it did; SIGTERM means the same. Then the server is stopped and
its folder removed. After the order to detach (`trackbench servers up`) the end of stdin means nothing.

It is a subreaper: processes that the server leaves behind become its children, so it knows when all are gone, and
whom to kill or to freeze. With the plan's `disk_mb`, the folder is a file system of that size, which only this
process and the server see; the lock and the log stay outside.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING or __name__ != "__main__":
    from bench.servers import family, small_disk
else:  # an isolated script finds what lies beside it only if told so; the package needs more than there is here
    sys.path.append(str(Path(__file__).parent))
    import family
    import small_disk

LOCK = "supervisor.lock"  # held for as long as the supervisor lives: a folder whose lock is free is stale
LOG = "server.log"
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
KILLED_CHILDREN_SECONDS = 15.0
TIDY_SECONDS = 10.0
LAST_LINES = 12

_prctl = getattr(ctypes.CDLL(None), "prctl", None)  # Linux only; elsewhere the end of stdin must do


class OwnerGone(Exception):
    """The owner ended, or asked for the end."""


def say(**event: Any) -> None:
    """Write one event; an owner that no longer listens is not an error."""
    with suppress(BrokenPipeError, OSError):
        os.write(1, (json.dumps(event) + "\n").encode())


class Supervisor:
    """The server of one plan, from an empty folder to a removed one."""

    def __init__(self, plan: dict[str, Any], unread: bytes) -> None:
        self.plan = plan
        self.folder = Path(plan["folder"])
        self.child: subprocess.Popen[bytes] | None = None
        self._code: int | None = None  # with which the child ended, until that was said
        self._log_begin = 0
        self._ice: family.Ice | None = None
        self._ballast: small_disk.Ballast | None = None  # on a small disk
        self._unread = unread
        self._asked_to_end = False
        self._listening = True
        self._was_killed = False
        self._detached = False
        self._wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_end)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _on_end(self, *_: object) -> None:
        self._asked_to_end = True

    def run(self) -> None:
        """Prepare, then obey until the owner is gone; the folder is removed in every case."""
        if not self._make_folder():
            return
        try:
            if self._prepare():
                say(event="prepared")
                self._obey()
        except OwnerGone:
            pass
        finally:
            if self._ballast is not None:
                self._ballast.free()  # a server without room may not be able to end
            self._stop_child()
            self._tidy()
            for argv in self.plan["after"]:
                with suppress(OSError, subprocess.TimeoutExpired):
                    subprocess.run(argv, env=self.plan["env"], timeout=60, capture_output=True, check=False)
            self._remove_folder()
            say(event="stopped")

    # -- the folder -------------------------------------------------------------------------------------

    def _make_folder(self) -> bool:
        uid, gid = self.plan["uid"], self.plan["gid"]
        try:
            self.folder.mkdir(mode=0o700)
        except OSError as error:  # it exists: then it isn't ours to remove either
            say(event="failed", what=f"the folder {self.folder} can't be made: {error.strerror}", log=[])
            return False
        try:
            self._lock = os.open(self.folder / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._log = self._new_private(LOG, "")
            if self.plan["disk_mb"] is not None:
                small_disk.mount(self.folder, self.plan["disk_mb"], None if uid is None else (uid, gid))
                self._ballast = small_disk.Ballast(self.folder)
            for name, text in self.plan["files"].items():
                os.close(self._new_private(name, text))
            if uid is not None:
                os.chown(self.folder, uid, gid)
        except OSError as error:
            self._remove_folder()
            say(event="failed", what=f"the folder {self.folder} can't be filled: {error.strerror}", log=[])
            return False
        say(event="made")
        return True

    def _remove_folder(self) -> None:
        if self._ballast is not None:
            with suppress(OSError):
                small_disk.unmount(self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _new_private(self, name: str, text: str) -> int:
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(self.folder / name, flags, 0o600)
        os.write(descriptor, text.encode())
        if self.plan["uid"] is not None:
            os.fchown(descriptor, self.plan["uid"], self.plan["gid"])
        return descriptor

    def _log_tail(self) -> list[str]:
        # Through our own descriptor: the folder belongs to the server's user, who could put a link there.
        size = os.fstat(self._log).st_size
        start = max(self._log_begin, size - 16384)
        return os.pread(self._log, size - start, start).decode(errors="replace").splitlines()[-LAST_LINES:]

    # -- children ---------------------------------------------------------------------------------------

    def _spawn(self, argv: list[str], env: dict[str, str]) -> int:
        supervisor = os.getpid()
        self._log_begin = os.fstat(self._log).st_size  # what is told of its end is not of an earlier life

        def last_words() -> None:
            # After the change of user, which would clear it; right before exec, which keeps it.
            if _prctl is not None:
                _prctl(PR_SET_PDEATHSIG, self.plan["death_signal"], 0, 0, 0)
                if os.getppid() != supervisor:
                    os._exit(1)
            os.umask(0o077)

        as_user: dict[str, Any] = {}
        if self.plan["uid"] is not None:
            as_user = {"user": self.plan["uid"], "group": self.plan["gid"], "extra_groups": []}
        self.child = subprocess.Popen(
            argv,
            env=env,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
            preexec_fn=last_words,  # noqa: PLW1509 (safe: this process has one thread)
            **as_user,
        )
        return self.child.pid

    def _reap(self) -> None:
        """Collect every child that ended, adopted ones too; note the exit code of ours if it was among them."""
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0] != 0:
                if self.child is not None and ended[0] == self.child.pid:
                    self._code = self.child.returncode = os.waitstatus_to_exitcode(ended[1])
                    self.child = None

    def _no_child_left(self, seconds: float, *, killing: bool = False) -> bool:
        """Wait until the server and all that it left behind are gone; those that are frozen go on to their end."""
        self._melt()
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            self._reap()
            try:
                os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return True
            if killing:  # again: some may have been born, or have lost their parent, while we looked
                self._kill_family()
            time.sleep(0.02)
        return False

    def _signal(self, number: int) -> None:
        if self.child is not None:
            family.send({self.child.pid}, number)

    def _kill_family(self) -> None:
        self._signal(signal.SIGKILL)  # where nobody can be found, at least the one we know
        family.send(family.of(os.getpid(), {self._ice.helper.pid} if self._ice else set()), signal.SIGKILL)

    def _kill(self) -> None:
        self._kill_family()
        if self.plan["kill"]:
            subprocess.run(self.plan["kill"], env=self.plan["env"], capture_output=True, check=False)
        self._no_child_left(KILLED_CHILDREN_SECONDS, killing=True)

    def _stop_child(self) -> None:
        self._melt()  # first: a signal that was waiting could wake any thread, and Python minds its main one only
        self._signal(self.plan["stop_signal"])
        if not self._no_child_left(self.plan["stop_seconds"]):
            self._was_killed = True
            self._no_child_left(KILLED_CHILDREN_SECONDS, killing=True)

    def _freeze(self) -> None:
        try:
            self._ice = self._ice or family.Ice()
            self._ice.freeze()
            say(event="frozen")
        except OSError as error:
            self._melt()
            say(event="failed", what=f"it can't be frozen: {error.strerror}", log=[])

    def _melt(self) -> None:
        if self._ice is not None:
            self._ice.melt()
            self._ice = None

    def _thaw(self) -> None:
        self._melt()
        say(event="thawed")

    def _fill(self) -> None:
        try:
            say(event="filled", bytes=self._ballast.fill() if self._ballast else 0)
        except OSError as error:
            say(event="failed", what=f"its disk can't be filled: {error.strerror}", log=[])

    def _free(self) -> None:
        if self._ballast is not None:
            self._ballast.free()
        say(event="freed")

    def _tidy(self) -> None:
        """A killed PostgreSQL leaves shared memory outside its folder, which its next start removes."""
        if not self._was_killed or not self.plan["tidy"]:
            return
        self._try_spawn(self.plan["tidy"], self.plan["env"])
        if not self._no_child_left(TIDY_SECONDS):
            self._signal(self.plan["death_signal"])
            self._no_child_left(KILLED_CHILDREN_SECONDS)

    # -- events -----------------------------------------------------------------------------------------

    def _next(self) -> tuple[str, Any]:
        """Wait for what comes first: ("exited", code) of our child or ("order", what the owner said)."""
        while True:
            if self._asked_to_end:
                raise OwnerGone
            self._reap()
            if self._code is not None:
                code, self._code = self._code, None
                return "exited", code
            line, newline, rest = self._unread.partition(b"\n")
            if newline:
                self._unread = rest
                return "order", json.loads(line)
            watched = [self._wake_read] + ([0] if self._listening else [])
            readable, _, _ = select.select(watched, [], [])
            if self._wake_read in readable:
                os.read(self._wake_read, 4096)
            if 0 in readable:
                self._read_stdin()

    def _read_stdin(self) -> None:
        data = os.read(0, 65536)
        self._unread += data
        if not data:
            if not self._detached:
                raise OwnerGone
            self._listening = False

    def _prepare(self) -> bool:
        for argv in self.plan["prepare"]:
            if self._try_spawn(argv, self.plan["env"]) is None:
                return False
            what, code = self._next()
            while what != "exited":  # orders before the server is prepared are a mistake of the caller
                what, code = self._next()
            if code != 0:
                say(event="failed", what=f"{Path(argv[0]).name} ended with {code}", log=self._log_tail())
                return False
        return True

    def _try_spawn(self, argv: list[str], env: dict[str, str]) -> int | None:
        try:
            return self._spawn(argv, env)
        except (OSError, subprocess.SubprocessError) as error:
            say(event="failed", what=f"{argv[0]} can't be run: {error}", log=[])
            return None

    def _obey(self) -> None:
        orders = {"kill": self._kill, "halt": self._stop_child, "detach": self._detach}
        orders |= {"freeze": self._freeze, "thaw": self._thaw, "fill": self._fill, "free": self._free}
        while True:
            what, value = self._next()
            if what == "exited":
                self._say_how_it_ended(value)
            elif value["order"] == "stop":
                return
            elif value["order"] == "start":
                self._start(value["argv"], value["env"])
            else:
                orders[value["order"]]()

    def _start(self, argv: list[str], env: dict[str, str]) -> None:
        if self.child is not None:
            say(event="failed", what="it runs already", log=[])
            return
        pid = self._try_spawn(argv, {**self.plan["env"], **env})
        if pid is not None:
            self._was_killed = False
            say(event="started", pid=pid)

    def _say_how_it_ended(self, code: int) -> None:
        if not self._no_child_left(self.plan["stop_seconds"]):  # PostgreSQL's backends end a moment later
            self._no_child_left(KILLED_CHILDREN_SECONDS, killing=True)
        self._was_killed = code != 0
        say(event="exited", code=code, log=self._log_tail())

    def _detach(self) -> None:
        self._detached = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)  # whoever reads the owner's errors must see their end
        os.close(nowhere)
        say(event="detached")


def read_plan() -> tuple[dict[str, Any], bytes]:
    """The first line of stdin, and what was read beyond it."""
    data = b""
    while b"\n" not in data:
        more = os.read(0, 65536)
        if not more:
            sys.exit(0)
        data += more
    line, _, rest = data.partition(b"\n")
    return json.loads(line), rest


def main() -> NoReturn:
    """Run one plan."""
    os.chdir("/")
    if _prctl is not None:
        _prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    Supervisor(*read_plan()).run()
    sys.exit(0)


if __name__ == "__main__":
    main()
