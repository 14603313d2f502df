"""HTTP users as a load process of their own, with Locust as a library: `bench.frames` on stdin and stdout.

.venv/bin/python -m loadtests._engine
"""

import gc
import json
import logging
import os
import resource
import sys
from contextlib import suppress

import gevent
import gevent.os
from locust.env import Environment

from bench import wall_clock
from bench.frames import PREFIX, TICK_S, pack
from bench.job import Job
from bench.outcome import ErrorKind
from loadtests._load import Load, Measurement
from loadtests._users import USERS, attach

_STDIN, _STDOUT, _STDERR = 0, 1, 2


class Engine:
    """Runs one job with Locust's users."""

    def __init__(self, job: Job, frames: int) -> None:
        assert job.site is not None
        self._job, self._frames = job, frames
        self._load = Load(job)
        user = USERS[job.workload.kind]
        # Users are never killed: each ends after its operation, which the time limit ends at last.
        self._environment = Environment(user_classes=[user], host=job.site.url, stop_timeout=job.timeout_s * 2)
        self._runner = self._environment.create_local_runner()

    def run(self) -> None:
        """Start the users, measure, and tell the owner."""
        load, job = self._load, self._job
        attach(self._environment, load)
        orders = gevent.spawn(self._obey)
        try:
            self._steer(job.active)
            while load.ready < job.active and not load.over.is_set():  # all begin together
                load.seated.clear()
                load.seated.wait(TICK_S)
            if job.active and len(load.unreachable) == job.active:
                self._send({"event": "failed", "error": ErrorKind.CONNECTION.label, "message": load.unreachable[0]})
                return
            Measurement(load, self._send).run()
        finally:
            orders.kill()
            load.stop()  # also lets go of users that still wait for the start
            self._runner.quit()
            load.close()

    def _steer(self, users: int) -> None:
        """So many users from now on, at once and not one a second."""
        self._runner.start(users, spawn_rate=max(users, self._runner.user_count, 1))
        spawning = self._runner.spawning_greenlet
        if spawning is not None:
            spawning.join()

    def _obey(self) -> None:
        while (order := _read(_STDIN)) is not None:
            if "clock_s" in order:
                wall_clock.step(float(str(order["clock_s"])))
            else:
                self._steer(int(str(order["writers"])))
        self._load.over.set()

    def _send(self, frame: dict[str, object]) -> None:
        left = pack(frame)
        try:
            while left:
                left = left[os.write(self._frames, left) :]
        except BrokenPipeError:  # the owner is gone; so says the end of stdin, soon
            self._load.over.set()


def _read(source: int) -> dict[str, object] | None:
    """The next frame, or None at the end of the stream."""
    prefix = _exactly(source, PREFIX.size)
    body = prefix and _exactly(source, PREFIX.unpack(prefix)[0])
    if not body:
        return None
    message: dict[str, object] = json.loads(body)
    return message


def _exactly(source: int, size: int) -> bytes | None:
    found = b""
    while len(found) < size:
        more = gevent.os.nb_read(source, size - len(found))
        if not more:
            return None
        found += more
    return found


def _open_many_files() -> None:
    """Each writer has a connection and a ledger: as many files as the system lets this process have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):  # macOS names no limit here, and has one
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> None:
    """Obey until the job is done or stdin ends."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    _open_many_files()
    frames = os.dup(_STDOUT)
    os.dup2(_STDERR, _STDOUT)  # nothing but frames may reach the owner
    gevent.os.make_nonblocking(_STDIN)
    first = _read(_STDIN)
    if first is not None:
        Engine(Job.from_json(str(first["job"])), frames).run()


if __name__ == "__main__":
    gc.freeze()  # what the imports made is never garbage, and need not be looked through while the load runs
    main()
