"""A server in its supervisor's care, seen from the process that owns it: how to start, stop and break it."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from bench.servers import family, places, supervise
from bench.servers.base import ServerFailed
from bench.servers.launch import Launch

HOST = "127.0.0.1"
PREPARE_SECONDS = 180.0  # seconds on an idle machine, much more on a busy disk
ATTEMPTS = 4  # another process may take the port between our look and the server's bind
_TROUBLE = re.compile(r"error|fatal|panic|abort|can't|could not|failed", re.IGNORECASE)
_IN_USE = re.compile("address already in use|port is already allocated", re.IGNORECASE)


class Supervised(ABC):
    """A private server on loopback. Use it as a context manager, or call `stop()`.

    `label` is what messages call it; `pid` is the server's process. All methods may be called from any thread.
    """

    host = HOST
    ready_seconds: ClassVar[float]  # within which it must answer
    ready_means: ClassVar[str]  # what nobody could do, if it did not

    def __init__(self, label: str, source: str, launch: Launch, folder: Path) -> None:
        self.label = label
        self.source = source
        self.folder = folder
        self.port = 0
        self.pid = 0
        self._launch = launch
        self._lock = threading.RLock()
        self._unread = b""
        self._alive = False
        self._is_ending = False  # set by `stop`, so that whoever waits in another thread gives up
        self._owns_folder = False  # until its supervisor made it: a folder that was there before is not ours
        self._supervisor = subprocess.Popen(
            [sys.executable, "-I", "-S", supervise.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in a terminal must reach us first
            bufsize=0,
        )
        try:
            self._send(launch.plan(folder, places.server_user()))
            self._expect("made", 10)
            self._owns_folder = True
            self._expect("prepared", PREPARE_SECONDS)
            self._start()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @abstractmethod
    def _answers(self, within_s: float) -> bool:
        """Ask once whether the server is ready, for so long; raises ServerFailed if it never will be."""

    @property
    def alive(self) -> bool:
        """Whether the server's process runs (not whether it answers)."""
        with self._lock:
            if self._supervisor.poll() is not None:
                self._alive = False
            while self._alive and (event := self._read_event(0)) is not None:
                self._note(event)
            return self._alive

    @property
    def supervisor_pid(self) -> int:
        """The process that starts, waits for and cleans up the server."""
        return self._supervisor.pid

    @property
    def untouchable(self) -> str | None:
        """None, or why its processes can't be had to `halt`, `freeze` and `thaw` them, in words."""
        if self._launch.untouchable is None and not family.can_be_found():
            return "this system does not show a server's processes"
        return self._launch.untouchable

    @property
    def small_disk(self) -> bool:
        """Whether its data are on a disk of their own, which `fill` can fill."""
        return self._launch.disk_mb is not None

    def kill(self) -> None:
        """SIGKILL the server and wait until all of its processes are gone; its data stay for `start_again`."""
        with self._lock:
            if self.alive:
                self._order("kill", "exited", 2 * supervise.KILLED_CHILDREN_SECONDS)

    def halt(self) -> None:
        """Have the server end as its administrator does, and wait until it is gone; its data stay for `start_again`.

        It is killed if it takes longer than its source allows. Raises ServerFailed where it is `untouchable`.
        """
        with self._lock:
            self._refuse_if_untouchable()
            if self.alive:
                limit = self._launch.stop_seconds + 2 * supervise.KILLED_CHILDREN_SECONDS
                self._order("halt", "exited", limit)

    def freeze(self) -> None:
        """Stop all of its processes where they are (SIGSTOP); returns when none runs.

        They go on with `thaw`, and when their owner or their supervisor is gone, however it ended: to end themselves.
        Raises ServerFailed if the server is `untouchable`, or does not run.
        """
        with self._lock:
            self._refuse_if_untouchable()
            if not self.alive:
                raise ServerFailed(f"{self.label} does not run: it can't be frozen")
            self._order("freeze", "frozen", 10)

    def thaw(self) -> None:
        """Let a frozen server go on. Does no harm when repeated."""
        with self._lock:
            self._order("thaw", "thawed", 10)

    def fill(self) -> int:
        """Fill the server's small disk until not one byte is left; how many bytes that took, all told.

        What the server removes thereafter is room again: repeat it if it must stay full.
        Raises ServerFailed where there is no small disk.
        """
        with self._lock:
            if not self.small_disk:
                raise ServerFailed(f"{self.label} has no small disk: nobody fills the machine's")
            return int(self._order("fill", "filled", 30)["bytes"])

    def free(self) -> None:
        """Give back what `fill` took. Does no harm when repeated."""
        with self._lock:
            self._order("free", "freed", 30)

    def start_again(self, within_s: float | None = None) -> None:
        """Start a server that was killed, halted or that died, on its old port and data; returns when it answers.

        Raises ServerFailed if it ends instead, or does not answer within ``within_s`` seconds (None: as long as any
        start may take). Then it may be called again, which starts it again or goes on waiting.
        """
        with self._lock:
            began = time.monotonic()
            if not self.alive:
                self._serve(self.port)
            self._wait_until_ready(began, self.ready_seconds if within_s is None else within_s)

    def stop(self) -> None:
        """Stop the server and remove its folder. Does no harm when repeated."""
        self._is_ending = True
        with self._lock:
            self._alive = False
            if self._supervisor.poll() is None:
                with suppress(OSError):
                    self._send({"order": "stop"})
            self._close_pipes()
            try:
                self._supervisor.wait(self._launch.stop_seconds + 2 * supervise.KILLED_CHILDREN_SECONDS)
            except subprocess.TimeoutExpired:
                self._supervisor.kill()  # the kernel kills the server with it
                self._supervisor.wait()
            if self._owns_folder:
                places.remove_folder(self.folder)

    def detach(self) -> None:
        """Leave the server running for good, in its supervisor's care; this object is of no more use."""
        with self._lock:
            self._send({"order": "detach"})
            self._expect("detached", 10)
            self._close_pipes()
            self._supervisor.returncode = 0  # it outlives us on purpose: `Popen` need not warn of it

    def _close_pipes(self) -> None:
        for pipe in (self._supervisor.stdin, self._supervisor.stdout):
            if pipe is not None:
                pipe.close()

    # -- talking to the supervisor ----------------------------------------------------------------------

    def _start(self) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            self.port = places.free_port()
            try:
                self._serve(self.port)
                self._wait_until_ready(time.monotonic(), self.ready_seconds)
                return
            except ServerFailed as error:
                if attempt == ATTEMPTS or not _IN_USE.search(str(error)):
                    raise

    def _serve(self, port: int) -> None:
        argv, env = self._launch.serve(port)
        self._send({"order": "start", "argv": argv, "env": env})
        self.pid = self._expect("started", 10)["pid"]
        self._alive = True

    def _wait_until_ready(self, began: float, seconds: float) -> None:
        deadline = began + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self._answers(left):
                return
            event = self._read_event(0.05)
            if event is not None:
                self._note(event)
                raise self._failure(event)
            if self._supervisor.poll() is not None:
                raise ServerFailed(f"the supervisor of {self.label} is gone")
            if self._is_ending:
                raise ServerFailed(f"{self.label} is being stopped")
        raise ServerFailed(f"{self.label} started but {self.ready_means} for {seconds:.0f} s")

    def _refuse_if_untouchable(self) -> None:
        if self.untouchable is not None:
            raise ServerFailed(f"{self.label}: {self.untouchable}")

    def _order(self, order: str, answer: str, seconds: float) -> dict[str, Any]:
        """Give an order and wait for its answer; that the server ended meanwhile is noted, and no answer."""
        self._send({"order": order})
        return self._expect(answer, seconds, passing="exited")

    def _send(self, message: Mapping[str, object]) -> None:
        assert self._supervisor.stdin is not None
        data = json.dumps(message).encode() + b"\n"
        try:
            while data:  # unbuffered: a pipe may take a part
                data = data[self._supervisor.stdin.write(data) or 0 :]
        except (BrokenPipeError, ValueError):
            raise ServerFailed(f"the supervisor of {self.label} is gone") from None

    def _expect(self, name: str, seconds: float, passing: str = "") -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            event = self._read_event(left)
            if event is None:
                break
            self._note(event)
            if event["event"] == name:
                return event
            if event["event"] != passing:
                raise self._failure(event)
        gone = self._supervisor.poll() is not None
        raise ServerFailed(f"the supervisor of {self.label} {'is gone' if gone else 'does not answer'}")

    def _note(self, event: Mapping[str, Any]) -> None:
        if event["event"] in ("exited", "stopped", "failed"):
            self._alive = False

    def _failure(self, event: Mapping[str, Any]) -> ServerFailed:
        what = event.get("what") or f"it ended with {event.get('code')}"
        said = _telling(event.get("log", []))
        return ServerFailed(f"{self.label} ({self.source}) did not start: {what}; it said: {said or 'nothing'}")

    def _read_event(self, seconds: float) -> dict[str, Any] | None:
        """The next event, or None if none came in time or the supervisor is gone."""
        assert self._supervisor.stdout is not None
        deadline = time.monotonic() + seconds
        while True:
            line, newline, rest = self._unread.partition(b"\n")
            if newline:
                self._unread = rest
                event: dict[str, Any] = json.loads(line)
                return event
            descriptor = self._supervisor.stdout
            left = max(0.0, deadline - time.monotonic())
            readable, _, _ = select.select([descriptor], [], [], left)
            if not readable:
                return None
            data = os.read(descriptor.fileno(), 65536)
            if not data:
                self._alive = False
                return None
            self._unread += data


def _telling(log: list[str]) -> str:
    """The last lines of a log that say what went wrong, as one line."""
    lines = [line.strip() for line in log if line.strip()]
    errors = [line for line in lines if _TROUBLE.search(line)]
    return " | ".join((errors or lines)[-3:])
