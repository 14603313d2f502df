"""One writer: a connection of its own, its operations one after the other, each timed and each commit in the ledger."""

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench import identity, ledger, retry
from bench.integrity.run_audit import end_time, run_row
from bench.job import Job
from bench.outcome import ErrorKind, Outcome
from bench.samples import code
from bench.stores.base import Store
from bench.stores.tracking import Metric, Tracking
from bench.workload import OPERATIONS

_BLOCK = 1024
_RESERVED, _OK = int(Outcome.RESERVED), int(Outcome.OK)
_READ_PAGE = 100
now = time.perf_counter_ns


class _Ending(NamedTuple):
    """How an operation ended, and at which of its attempts."""

    at: int
    outcome: Outcome
    kind: ErrorKind
    attempts: int


class Writer:
    """A writer of a job. `run` works until `stop` is called, the count is reached or the task is cancelled."""

    def __init__(
        self,
        job: Job,
        index: int,
        store: Store,
        record: Callable[[tuple[int, int, int, int]], None],
        together: asyncio.Barrier | None = None,
    ) -> None:
        self.index = index
        self.started = 0  # when the operation in flight began; 0 between operations
        self.retried: Counter[str] = Counter()  # errors, by kind, of attempts that were made again
        self.reconnects = 0
        self.refused: Counter[str] = Counter()  # errors, by kind, of connections that could not be made anew
        self._job, self._store, self._record = job, store, record
        self._layout = job.layout
        self._run_id = job.run_id(index) if job.run_ids else ""
        self._batch = job.workload.metrics
        self._count = math.inf if job.count is None else job.count
        self._together = together  # where all writers meet before each operation
        self._stopping = False  # the same as the event, which is dear to ask on the hot path
        self._stopped = asyncio.Event()
        self._timed_out = False
        self._task: asyncio.Task[None] | None = None
        self._tracking: Tracking | None = None
        self._ledger = ledger.Ledger(ledger.path_of(Path(job.folder), index))
        self._open = -1  # the commit that is reserved and not yet decided
        self._highest = -1
        self._committed = 0  # commits of the operation in flight that the database has acknowledged
        self._block: list[Metric] = []
        self._block_start = 0
        self._codes = {name: code(number, _OK, writer=index) for number, name in enumerate(OPERATIONS)}

    # Life

    async def connect(self) -> None:
        """Open the writer's connection; raises the driver's error."""
        self._tracking = Tracking(self._store, await self._store.connect(self._job.session_options))

    async def run(self) -> None:
        """Work; returns when stopped. The connection and the ledger are closed whatever happens."""
        self._task = asyncio.current_task()
        try:
            await self._work()
        except asyncio.BrokenBarrierError:
            pass  # another writer has ended
        finally:
            if self._together is not None:
                await self._together.abort()
            self._ledger.close(self._highest + 1)
            if self._tracking is not None:
                await self._tracking.session.close()

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stopping

    def stop(self) -> None:
        """End after the operation in flight."""
        self._stopping = True
        self._stopped.set()

    def check_timeout(self, limit_ns: int) -> None:
        """Give up the operation in flight if it runs for longer than ``limit_ns``."""
        if self.started and not self._timed_out and now() - self.started > limit_ns and self._task is not None:
            self._timed_out = True
            self._task.cancel()

    # The loop of each kind of workload

    async def _work(self) -> None:
        kind = self._job.workload.kind
        if kind == "train":
            await self._train_runs()
        elif kind in ("read", "mixed"):
            await self._mix()
        else:
            await self._write()

    async def _write(self) -> None:
        """One write after the other: the hot loop."""
        name = self._job.workload.operation
        action = self._action
        number = 0
        while not self._is_over(number):
            if self._together is not None:
                await self._together.wait()
            await self._operate(name, action, number)
            number += 1

    async def _mix(self) -> None:
        """Reads spread evenly among writes; nothing but reads for kind ``read``."""
        work = self._job.workload
        share = work.read_share if work.kind == "mixed" else 1.0
        action = self._action
        reads = writes = 0
        while not self._is_over(reads + writes):
            if int((reads + writes + 1) * share) > reads:
                await self._read(reads)
                reads += 1
            else:
                await self._operate(work.operation, action, writes)
                writes += 1

    async def _train_runs(self) -> None:
        cycle = done = 0
        while not self._is_over(done):
            done += await self._train(cycle, done)
            cycle += 1

    @property
    def _action(self) -> Callable[[int], Awaitable[None]]:
        """What carries out the n-th operation that writes."""
        actions = {"log_metric": self._log_metric, "log_batch": self._log_batch, "bulk_insert": self._bulk}
        return actions[self._job.workload.operation]

    def _log_metric(self, number: int) -> Awaitable[None]:
        return self._commit(number, self._tracking_now.log_metrics, self._run_id, self._metrics(number, 1))

    def _bulk(self, number: int) -> Awaitable[None]:
        metrics = self._metrics(number * self._batch, self._batch)
        return self._commit(number, self._tracking_now.bulk_metrics, self._run_id, metrics)

    async def _log_batch(self, number: int) -> None:
        work, layout, tracking, run_id = self._job.workload, self._layout, self._tracking_now, self._run_id
        commit = number * layout.commits_per_cycle
        await tracking.peek_run(run_id)
        if work.params:
            ordinals = range(number * work.params, (number + 1) * work.params)
            params = [(layout.param_key(self.index, n), self._text(n, "param")) for n in ordinals]
            await self._commit(commit, tracking.log_params, run_id, params)
            commit += 1
        if work.metrics:
            metrics = self._metrics(number * work.metrics, work.metrics)
            order = layout.batch_order(self.index, number)
            await self._commit(commit, tracking.log_metrics, run_id, [metrics[n] for n in order])
            commit += 1
        else:
            await tracking.peek_run(run_id)  # MLflow opens its session for metrics even if there are none
        if work.tags:
            ordinals = range(number * work.tags, (number + 1) * work.tags)
            tags = [(layout.tag_key(self.index, n), self._text(n, "tag")) for n in ordinals]
            await self._commit(commit, tracking.set_tags, run_id, tags)

    async def _train(self, cycle: int, done: int) -> int:
        work, layout, job = self._job.workload, self._layout, self._job
        run_id = layout.run_id(self.index, cycle)
        commit = layout.create_commit(cycle)
        row = run_row(job.key, self.index, cycle, job.experiment_id, job.artifact_root)
        steps: list[tuple[str, str, tuple[Any, ...]]] = []
        for n in range(cycle * work.params, (cycle + 1) * work.params):
            steps.append(("log_param", "log_param", (run_id, layout.param_key(self.index, n), self._text(n, "param"))))
        for n in range(cycle * work.tags, (cycle + 1) * work.tags):
            steps.append(("set_tag", "set_tag", (run_id, layout.tag_key(self.index, n), self._text(n, "tag"))))
        first = cycle * layout.metrics_per_cycle
        operations = 1
        if not await self._operate("create_run", self._single, commit, "create_run", row):
            return operations
        for name, method, arguments in steps:
            commit += 1
            if self._is_over(done + operations):
                return operations
            await self._operate(name, self._single, commit, method, *arguments)
            operations += 1
        for n in range(first, first + layout.metrics_per_cycle):
            commit += 1
            if self._is_over(done + operations):
                return operations
            await self._operate("log_metric", self._single, commit, "log_metrics", run_id, self._metrics(n, 1))
            operations += 1
        end = end_time(job.key, self.index, cycle)
        await self._operate("finish_run", self._single, commit + 1, "finish_run", run_id, end)
        return operations + 1

    async def _read(self, number: int) -> None:
        """The writer's n-th read: each kind in turn, each key in turn."""
        targets = self._job.reads
        assert targets is not None
        run = random.Random(f"{self._job.key.word}/{self.index}/{number}").randrange(targets.runs)
        run_id, tracking = targets.run_id(run), self._tracking_now
        turn, kind = divmod(number, 3)
        if kind == 0:
            await self._operate("search_runs", tracking.search_runs, targets.experiment_id, _READ_PAGE)
        elif kind == 1:
            key = f"metric{turn % targets.keys:04x}"
            await self._operate("metric_history", tracking.metric_history, run_id, key)
        else:
            await self._operate("get_run", tracking.get_run, run_id)

    def _is_over(self, done: int) -> bool:
        return self._stopping or done >= self._count

    def _single(self, commit: int, method: str, *arguments: Any) -> Awaitable[None]:
        return self._commit(commit, getattr(self._tracking_now, method), *arguments)

    # One operation, one commit

    async def _operate(self, name: str, action: Callable[..., Awaitable[Any]], *arguments: Any) -> bool:
        """Carry out one operation, timed and recorded; returns whether it ended ok."""
        start = self.started = now()
        self._committed = 0
        try:
            await action(*arguments)
        except (Exception, asyncio.CancelledError) as error:
            return await self._operate_again(name, action, arguments, error)
        self.started = 0
        self._record((start, start, now(), self._codes[name]))
        return True

    async def _operate_again(
        self, name: str, action: Callable[..., Awaitable[Any]], arguments: tuple[Any, ...], error: BaseException
    ) -> bool:
        """After an error: retry as far as the scenario asks for it, then record how it ended.

        Nobody knows how an operation ended whose writer broke down or was killed; it is recorded all the same.
        """
        start, number = self.started, OPERATIONS.index(name)
        ending = _Ending(now(), Outcome.INFO, ErrorKind.NONE, 1)
        try:
            ending = await self._retry(action, arguments, error, ending.at)
        finally:
            word = code(number, ending.outcome, ending.kind, ending.attempts, self.index)
            self._record((start, start, ending.at, word))
        return ending.outcome is Outcome.OK

    async def _retry(
        self, action: Callable[..., Awaitable[Any]], arguments: tuple[Any, ...], error: BaseException | None, ended: int
    ) -> _Ending:
        """Clean up after an attempt that ended with ``error``, and make others as long as they are wanted."""
        attempts, outcome, kind = 1, Outcome.OK, ErrorKind.NONE
        self.started = 0  # no time limit for the clean-up, which is not part of the operation either
        while error is not None:
            kind, outcome = await self._failed(error)
            if not self._may_retry(kind, attempts):
                break
            self.retried[kind.label] += 1
            await self._back_off(attempts)
            if self._stopping:
                break
            attempts += 1
            self.started = now()
            try:
                error = None
                await action(*arguments)
                outcome, kind = Outcome.OK, ErrorKind.NONE
            except (Exception, asyncio.CancelledError) as again:
                error = again
            ended, self.started = now(), 0
        return _Ending(ended, outcome, kind, attempts)

    async def _commit(self, commit: int, action: Callable[..., Awaitable[Any]], *arguments: Any) -> None:
        """Carry out one commit: reserved in the ledger before the send, ok only once the database has answered."""
        if commit >= self._ledger.capacity:
            self._ledger.ensure(commit)
        status = self._ledger.status
        if status[commit] == _OK:
            return  # a retried batch: this part is already done
        if commit > self._highest:  # noqa: PLR1730 (a call is dear on this path)
            self._highest = commit
        self._open = commit
        status[commit] = _RESERVED
        await action(*arguments)
        status[commit] = _OK
        self._open = -1
        self._committed += 1

    async def _failed(self, error: BaseException) -> tuple[ErrorKind, Outcome]:
        """Name the error, write the outcome of the open commit, and bring the connection back to a clean state.

        A batch of which some commits are done is not certainly undone: its outcome as an operation is INFO.
        """
        tracking = self._tracking_now
        if isinstance(error, ledger.LedgerFull):
            raise error  # ours, not the store's
        if isinstance(error, asyncio.CancelledError):
            if not self._timed_out:
                raise error
            self._timed_out = False
            kind = ErrorKind.TIMEOUT
        else:
            kind = self._store.classify(error)
        doubt = tracking.in_doubt and kind.leaves_doubt
        outcome = Outcome.INFO if doubt else Outcome.FAIL
        if self._open >= 0:
            self._ledger.status[self._open] = int(outcome)
            self._open = -1
        if kind in (ErrorKind.TIMEOUT, ErrorKind.CONNECTION) or not await self._rolled_back():
            await self._reconnect()
        return kind, Outcome.INFO if self._committed else outcome

    async def _rolled_back(self) -> bool:
        try:
            await self._tracking_now.session.rollback()
        except Exception:
            return False
        return True

    async def _reconnect(self) -> None:
        await self._tracking_now.session.close()
        pause = 0.05
        while not self._stopping:
            try:
                await self.connect()
                self.reconnects += 1
                return
            except Exception as error:
                self.refused[self._store.classify(error).label] += 1
                await asyncio.sleep(pause)
                pause = min(pause * 2, 1.0)

    async def _back_off(self, attempts: int) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), retry.pause_s(attempts))

    def _may_retry(self, kind: ErrorKind, attempts: int) -> bool:
        wanted = self._job.retry == "mlflow" and kind.is_lock and attempts <= retry.RETRIES
        return wanted and not self._stopping

    @property
    def _tracking_now(self) -> Tracking:
        assert self._tracking is not None
        return self._tracking

    # What is written

    def _metrics(self, first: int, count: int) -> list[Metric]:
        """``count`` metrics from ordinal ``first`` on; computed in blocks, since numpy is slow on single numbers."""
        place = first - self._block_start
        if place < 0 or place + count > len(self._block):
            self._block_start, place = first, 0
            ordinals = np.arange(first, first + max(_BLOCK, count))
            timestamps, values = identity.metrics(self._job.key, np.array([self.index]), ordinals)
            stored, is_nan = identity.as_stored(values)
            keys, steps = self._layout.metric_places(self.index, ordinals)
            columns = (keys, stored.tolist(), timestamps.tolist(), steps, is_nan.tolist())
            self._block = list(zip(*columns, strict=True))
        return self._block[place : place + count]

    def _text(self, ordinal: int, what: str) -> str:
        return identity.text(self._job.key, self.index, ordinal, what)
