"""One writer over HTTP: an identity with its ledger, whose operations users carry out, one user after another."""

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns as now
from typing import NamedTuple

from gevent import GreenletExit
from gevent.event import Event

from bench import ledger, retry
from bench.job import Job
from bench.outcome import ErrorKind, Outcome
from bench.pacer import skipped_code
from bench.samples import code
from bench.workload import OPERATIONS
from loadtests._answers import Judged, refusal
from loadtests._connection import Connection, Lost, NotSent
from loadtests._scripts import Operation, Script

_RESERVED, _OK = int(Outcome.RESERVED), int(Outcome.OK)
_FIRST_BREATH_S, _LONGEST_BREATH_S = 0.05, 1.0

# What MLflow's client tries again (mlflow.utils.rest_utils).
_RETRIED = frozenset({408, 429, 500, 502, 503, 504})
_CREATES = frozenset({"create_run", "create_experiment"})  # repeating one that was carried out makes two
_CREATES_RETRIED = frozenset({408, 429})


class Told(NamedTuple):
    """What Locust's statistics learn of an operation. ``error`` is None if it ended ok.

    ``milliseconds`` count from when it was due: Locust's own percentiles would otherwise hide a stall of the server,
    during which the operations that an open loop has due wait and are sent late.
    """

    method: str
    name: str
    milliseconds: float
    length: int
    error: str | None


class _Attempt(NamedTuple):
    """How one attempt ended. ``status`` is 0 where there was no answer."""

    judged: Judged
    status: int
    body: bytes | None


class HttpWriter:
    """A writer of a job. One `step` is one operation, retries included.

    A user sits down with a connection and rises again; what it left in flight, if it was killed, stays reserved in
    the ledger, and the next user goes on with the next operation.
    """

    def __init__(
        self,
        job: Job,
        index: int,
        script: Script,
        record: Callable[[tuple[int, int, int, int]], None],
        stopping: Event,
    ) -> None:
        self.index = index
        self.started = 0  # when the attempt in flight began; 0 between attempts
        self.done = 0  # operations
        self.retried: Counter[str] = Counter()  # errors, by kind, of attempts that were made again
        self.reconnects = 0  # of users that have left
        self._job, self._script, self._record, self._stopping = job, script, record, stopping
        self._counted = job.site is not None and job.site.counted
        self._count = math.inf if job.count is None else job.count
        self._connection: Connection | None = None
        self._tell: Callable[[Told], None] | None = None
        self._timed_out = False
        self._sent = True  # the last attempt
        self._breath_s = 0.0
        self._answer: bytes | None = None  # to the last operation, for the script; None also if it did not end ok
        self._begun = False
        self._ledger = ledger.Ledger(ledger.path_of(Path(job.folder), index))
        self._highest = -1
        self._codes = {name: code(number, _OK, writer=index) for number, name in enumerate(OPERATIONS)}
        self._skipped = skipped_code(job.workload, index)

    @property
    def is_over(self) -> bool:
        """Whether it has made all operations that the job wants of it."""
        return self.done >= self._count

    def sit(self, connection: Connection, tell: Callable[[Told], None]) -> None:
        """A user takes over."""
        self._connection, self._tell = connection, tell

    def rise(self) -> None:
        """The user leaves."""
        if self._connection is not None:
            self._connection.close()
            self.reconnects += max(0, self._connection.opened - 1)
        self._connection, self._tell, self.started = None, None, 0

    def close(self) -> None:
        """No user will come again: cut the ledger to what was planned."""
        self._ledger.close(self._highest + 1)

    def check_timeout(self, limit_ns: int) -> None:
        """Give up the attempt in flight if it runs for longer than ``limit_ns``."""
        if self.started and not self._timed_out and now() - self.started > limit_ns and self._connection is not None:
            self._timed_out = self._connection.abort()

    def skip(self, due_ns: int, given_up_ns: int) -> None:
        """Record an arrival that was never sent."""
        self._record((due_ns, given_up_ns, given_up_ns, self._skipped))

    def step(self, due: int | None = None) -> bool:
        """Carry out the next operation, timed and recorded; false if there is none, or the job is being stopped.

        ``due`` is when it was due in an open loop. Such an operation was taken from the schedule and is always carried
        out and recorded, whatever else is going on.
        """
        if due is None and (self.done >= self._count or self._stopping.is_set()):
            return False
        operation = self._script.send(self._answer) if self._begun else next(self._script)
        self._begun, self._answer = True, None
        connection, name = self._connection, operation.name
        assert connection is not None
        self._reserve(operation)
        self._sent = True
        start = self.started = now()
        scheduled = due or start
        try:
            status, body, errors = connection.exchange(operation.request, operation.method)
        except (NotSent, Lost) as error:
            attempt = self._broken(operation, error)
        except GreenletExit:
            self._killed(name, (scheduled, start), 1)
            raise
        else:
            ended = now()
            if 200 <= status < 300:
                self.started, self._breath_s = 0, 0.0
                self._settle(operation, _OK)
                self._record((scheduled, start, ended, self._codes[name]))
                self.done += 1
                self._answer = body
                assert self._tell is not None
                self._tell(Told(operation.method, name, (ended - scheduled) / 1e6, len(body), None))
                return True
            attempt = _Attempt(refusal(status, body, errors, self._counted, operation.parts), status, body)
        self._answer = self._try_again(operation, attempt, (scheduled, start))
        if due is None:
            self._catch_breath()
        return True

    # After an error

    def _catch_breath(self) -> None:
        """Wait after an operation that could not be sent, as a direct writer does: refusals come at once."""
        if self._sent:
            return
        self._breath_s = min(max(_FIRST_BREATH_S, 2 * self._breath_s), _LONGEST_BREATH_S)
        self._stopping.wait(self._breath_s)

    def _broken(self, operation: Operation, error: NotSent | Lost) -> _Attempt:
        """An attempt without an answer: in doubt if it was sent, and if it writes."""
        self._sent = not isinstance(error, NotSent)
        timed_out = self._timed_out or isinstance(error.__cause__, TimeoutError)
        self._timed_out = False
        kind = ErrorKind.TIMEOUT if timed_out else ErrorKind.CONNECTION
        certain = isinstance(error, NotSent) or operation.parts == 0
        return _Attempt(Judged(Outcome.FAIL if certain else Outcome.INFO, kind), 0, None)

    def _try_again(self, operation: Operation, attempt: _Attempt, begun: tuple[int, int]) -> bytes | None:
        """Retry as far as the scenario asks for it, then record how the operation ended; the answer, if it ended ok.

        ``begun``: when it was due, and when its first attempt began.
        """
        connection, attempts, ended = self._connection, 1, now()
        assert connection is not None
        doubt = False
        try:
            while True:
                self.started = 0
                (outcome, kind), status, body = attempt
                doubt = doubt or outcome is Outcome.INFO
                if outcome is Outcome.OK or not self._may_retry(operation, status, attempts):
                    break
                self._settle(operation, int(Outcome.INFO if doubt else outcome))
                if self._back_off(attempts):
                    break
                self.retried[kind.label] += 1
                attempts += 1
                self._reserve(operation)
                self.started = now()
                attempt = self._attempt(operation, connection)
                ended = now()
        except GreenletExit:
            self._killed(operation.name, begun, attempts)
            raise
        if doubt and outcome is Outcome.FAIL:
            outcome = Outcome.INFO  # an earlier attempt may have been carried out
        self._settle(operation, int(outcome))
        self._record((*begun, ended, code(OPERATIONS.index(operation.name), outcome, kind, attempts, self.index)))
        self.done += 1
        error = None if outcome is Outcome.OK else f"{kind.label} ({outcome.name.lower()}, HTTP {status or 'none'})"
        assert self._tell is not None
        self._tell(Told(operation.method, operation.name, (ended - begun[0]) / 1e6, len(body or b""), error))
        return body if outcome is Outcome.OK else None

    def _attempt(self, operation: Operation, connection: Connection) -> _Attempt:
        try:
            status, body, errors = connection.exchange(operation.request, operation.method)
        except (NotSent, Lost) as error:
            return self._broken(operation, error)
        if 200 <= status < 300:
            return _Attempt(Judged(Outcome.OK, ErrorKind.NONE), status, body)
        return _Attempt(refusal(status, body, errors, self._counted, operation.parts), status, body)

    def _may_retry(self, operation: Operation, status: int, attempts: int) -> bool:
        if self._job.retry != "mlflow" or attempts > retry.RETRIES or self._stopping.is_set():
            return False
        if operation.name in _CREATES:
            return status in _CREATES_RETRIED
        return status == 0 or status in _RETRIED

    def _back_off(self, attempts: int) -> bool:
        """Wait before the next attempt; true if the job was stopped meanwhile."""
        return bool(self._stopping.wait(retry.pause_s(attempts)))

    def _killed(self, name: str, begun: tuple[int, int], attempts: int) -> None:
        """The user was killed in its operation: nobody knows how it ended, and the ledger keeps it reserved."""
        self.started = 0
        self._record((*begun, now(), code(OPERATIONS.index(name), Outcome.INFO, 0, attempts, self.index)))
        self.done += 1

    # The ledger

    def _reserve(self, operation: Operation) -> None:
        """Before the send."""
        if not operation.commits:
            return
        last = operation.commit + operation.commits - 1
        if last >= self._ledger.capacity:
            self._ledger.ensure(last)
        if last > self._highest:  # noqa: PLR1730 (a call is dear on this path)
            self._highest = last
        self._settle(operation, _RESERVED)

    def _settle(self, operation: Operation, outcome: int) -> None:
        status = self._ledger.status
        if operation.commits == 1:
            status[operation.commit] = outcome
        else:
            for commit in range(operation.commit, operation.commit + operation.commits):
                status[commit] = outcome
