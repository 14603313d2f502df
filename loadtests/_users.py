"""Locust's users of a tracking server, one class for each kind of workload.

A locustfile imports the classes it offers. Who starts the test makes a `Load` and gives it to `attach`; each user then
takes a writer of the load of its kind, and gives it back when it stops. Importing this module imports Locust, which
patches the standard library: it must come before asyncio, ssl and what uses them.
"""

import logging
import time
from collections.abc import Callable
from typing import cast
from weakref import WeakKeyDictionary

import gevent
from gevent.event import AsyncResult
from locust import FastHttpUser, task
from locust.env import Environment
from locust.exception import StopUser
from locust.user.task import LOCUST_STATE_RUNNING

from bench.workload import Kind
from loadtests._connection import Connection, NotSent
from loadtests._load import Load
from loadtests._pace import Pace
from loadtests._together import Together
from loadtests._writer import HttpWriter, Told

_log = logging.getLogger(__name__)
_loads: "WeakKeyDictionary[Environment, dict[Kind, AsyncResult[Load]]]" = WeakKeyDictionary()


def _place(environment: Environment, kind: Kind) -> "AsyncResult[Load]":
    return _loads.setdefault(environment, {}).setdefault(kind, AsyncResult())


def attach(environment: Environment, load: Load) -> None:
    """From now on users of the load's kind work for it; those already waiting for one begin."""
    detach(environment, load.job.workload.kind)
    _place(environment, load.job.workload.kind).set(load)


def detach(environment: Environment, kind: Kind) -> None:
    """From now on users of this kind wait until a load is attached."""
    if _place(environment, kind).ready():
        del _loads[environment][kind]


class Failed(Exception):
    """How an operation failed, for Locust's statistics."""


class TrackingUser(FastHttpUser):
    """A user of a tracking server; which operations it makes is its writer's business."""

    abstract = True
    kind: Kind
    host = "http://127.0.0.1"  # the load knows better; Locust wants one all the same

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._load: Load | None = None
        self._writer: HttpWriter | None = None
        self._fire: Callable[..., None] = environment.events.request.fire
        self._unpaced = type(self).wait_time is FastHttpUser.wait_time

    def on_start(self) -> None:
        """Take a writer, connect, and wait for the start."""
        load = self._load = cast(Load, _place(self.environment, self.kind).get())
        try:
            seated = self._sit(load)
        except Exception as error:  # no file left for a ledger, no room for it: nobody must wait for this user
            _log.exception("a user could not begin")
            load.fault(error)
            raise StopUser from error
        if not seated:
            load.short(type(self).__name__)
            raise StopUser
        load.go.wait()

    def _sit(self, load: Load) -> bool:
        assert load.job.site is not None
        writer = self._writer = load.take()
        if writer is None:
            return False
        connection = Connection(load.job.site.url, load.job.timeout_s)
        writer.sit(connection, self._tell)
        if load.together is not None:
            load.together.join()
        problem = None
        try:
            connection.open()
        except NotSent as error:
            problem = str(error)
        load.sat_down(problem)
        return True

    def on_stop(self) -> None:
        """Give the writer back."""
        load, writer = self._load, self._writer
        self._writer = None
        if load is not None and writer is not None:
            if load.together is not None:
                load.together.leave()
            load.give(writer)

    def stop(self, force: bool = False) -> bool:
        """Locust wants the user to end; if it waits for an arrival, it need not wait on."""
        load, writer = self._load, self._writer
        killed = bool(super().stop(force))
        if not killed and load is not None and load.pace is not None and writer is not None:
            load.pace.let_go(writer)
        return killed

    @task
    def work(self) -> None:
        """Operations until the user or the load is stopped.

        A single one if the class has a ``wait_time``; in an open loop the schedule alone says when they are due.
        """
        load, writer = self._load, self._writer
        assert load is not None
        assert writer is not None
        try:
            if load.pace is not None:
                self._keep_to(load.pace, writer)
            elif self._go_on(load.together, writer):
                return
        except Exception as error:
            _log.exception("a writer broke down")
            load.fault(error)
        raise StopUser

    def _go_on(self, together: Together | None, writer: HttpWriter) -> bool:
        """One operation after the other; true if Locust's own wait time comes next."""
        step = writer.step
        while self._state == LOCUST_STATE_RUNNING:
            if together is not None:
                together.wait()
            if not step():
                break
            if not self._unpaced:
                return True
            gevent.sleep(0)  # an answer that is there at once must not keep the others from theirs
        return False

    def _keep_to(self, pace: Pace, writer: HttpWriter) -> None:
        """Operations as they are due, until the schedule ends."""
        while self._state == LOCUST_STATE_RUNNING and (due := pace.next(writer)) is not None:
            writer.step(due)
            gevent.sleep(0)

    def _tell(self, told: Told) -> None:
        self._fire(
            request_type=told.method,
            name=told.name,
            response_time=told.milliseconds,
            response_length=told.length,
            exception=None if told.error is None else Failed(told.error),
            context={},
            start_time=time.time() - told.milliseconds / 1e3,
            url=self.host,
        )


class LogMetricUser(TrackingUser):
    """Logs one metric at a time."""

    kind: Kind = "log_metric"


class LogBatchUser(TrackingUser):
    """Logs batches of metrics, params and tags."""

    kind: Kind = "log_batch"


class TrainUser(TrackingUser):
    """Makes whole runs: create, params, tags, metrics one at a time, finish."""

    kind: Kind = "train"


class ReadUser(TrackingUser):
    """Searches runs, reads metric histories and runs."""

    kind: Kind = "read"


class MixedUser(TrackingUser):
    """Writes, and reads now and then."""

    kind: Kind = "mixed"


class TracesUser(TrackingUser):
    """Starts traces, logs their spans, and searches them now and then."""

    kind: Kind = "traces"


USERS: dict[Kind, type[TrackingUser]] = {
    user.kind: user for user in (LogMetricUser, LogBatchUser, TrainUser, ReadUser, MixedUser, TracesUser)
}
