"""What a writer does, one operation after the other: a generator for each kind of workload.

A script yields the next operation, ready to be sent, and is sent back the body of its answer, or None if the
operation did not end ok. It outlives the user who carries it out: the next one goes on where it stopped.
"""

import json
import random
from collections.abc import Callable, Generator
from typing import NamedTuple

from bench.integrity.run_audit import end_time
from bench.job import Job
from loadtests._requests import Requests
from loadtests._traces import TraceRequests

BLOCK = 64  # requests encoded at a time: other users wait meanwhile


class Operation(NamedTuple):
    """One request: ``commits`` commits of the ledger from ``commit`` on, in ``parts`` of the server's own.

    A read has neither.
    """

    name: str
    request: bytes
    commit: int = 0
    commits: int = 0
    parts: int = 0

    @property
    def method(self) -> str:
        """GET or POST."""
        return "GET" if self.request.startswith(b"GET") else "POST"


Script = Generator[Operation, bytes | None, None]


class Scripts:
    """Makes the scripts of a job's writers."""

    def __init__(self, job: Job) -> None:
        self._job, self._layout, self._requests = job, job.layout, Requests(job)
        self._traces_requests = TraceRequests(job, self._requests.wire)

    def of(self, writer: int) -> Script:
        """The script of one writer."""
        kinds: dict[str, Callable[[int], Script]] = {
            "log_metric": self._log_metric,
            "log_batch": self._log_batch,
            "train": self._train,
            "read": self._reads,
            "mixed": self._mixed,
            "traces": self._traces,
        }
        return kinds[self._job.workload.kind](writer)

    def _log_metric(self, writer: int) -> Script:
        """One metric after the other: the hot loop."""
        run_id, number = self._job.run_id(writer), 0
        while True:
            for request in self._requests.log_metrics(writer, run_id, number, BLOCK):
                yield Operation("log_metric", request, number, 1, 1)
                number += 1

    def _log_batch(self, writer: int) -> Script:
        run_id, commits, number = self._job.run_id(writer), self._layout.commits_per_cycle, 0
        while True:
            request = self._requests.log_batch(writer, run_id, number)
            yield Operation("log_batch", request, number * commits, commits, commits)
            number += 1

    def _mixed(self, writer: int) -> Script:
        writes = (self._log_batch if self._job.workload.operation == "log_batch" else self._log_metric)(writer)
        return self._among(writes, self._reads(writer))

    def _among(self, writes: Script, reads: Script) -> Script:
        """Reads spread evenly among writes."""
        share, done, answer = self._job.workload.read_share, 0, None
        operation = next(writes)
        for number in range(1, 1 << 62):
            if int(number * share) > done:
                yield next(reads)
                done += 1
            else:
                answer = yield operation
                operation = writes.send(answer)

    def _reads(self, writer: int) -> Script:
        """Each kind of read in turn, each key in turn."""
        targets, number = self._job.reads, 0
        assert targets is not None
        search = self._requests.search_runs(targets.experiment_id)
        while True:
            run = random.Random(f"{self._job.key.word}/{writer}/{number}").randrange(targets.runs)
            run_id = targets.run_id(run)
            turn, kind = divmod(number, 3)
            if kind == 0:
                yield Operation("search_runs", search)
            elif kind == 1:
                request = self._requests.metric_history(run_id, f"metric{turn % targets.keys:04x}")
                yield Operation("metric_history", request)
            else:
                yield Operation("get_run", self._requests.get_run(run_id))
            number += 1

    def _train(self, writer: int) -> Script:
        """Whole runs, whose ids the server chooses; without its run the rest of a cycle can't be sent."""
        cycle = 0
        while True:
            experiment_id: str | None = str(self._job.experiment_id)
            if self._job.workload.experiments:
                request = self._requests.create_experiment(writer, cycle)
                answer = yield Operation("create_experiment", request, self._layout.experiment_commit(cycle), 1, 1)
                experiment_id = _field(answer, "experiment_id")
            if experiment_id is not None:
                request = self._requests.create_run(writer, cycle, experiment_id)
                answer = yield Operation("create_run", request, self._layout.create_commit(cycle), 1, 2)
                run_id = _field(answer, "run", "info", "run_id")
                if run_id is not None:
                    yield from self._fill(writer, cycle, run_id)
            cycle += 1

    def _fill(self, writer: int, cycle: int, run_id: str) -> Script:
        """Params, tags, metrics and the end of one run."""
        work, layout, requests = self._job.workload, self._layout, self._requests
        for n in range(cycle * work.params, (cycle + 1) * work.params):
            yield Operation("log_param", requests.log_param(writer, run_id, n), layout.param_commit(n), 1, 1)
        for n in range(cycle * work.tags, (cycle + 1) * work.tags):
            yield Operation("set_tag", requests.set_tag(writer, run_id, n), layout.tag_commit(n), 1, 1)
        metrics = layout.metrics_per_cycle
        commit = layout.finish_commit(cycle) - metrics
        for first in range(cycle * metrics, (cycle + 1) * metrics, BLOCK):
            count = min(BLOCK, (cycle + 1) * metrics - first)
            for request in requests.log_metrics(writer, run_id, first, count):
                yield Operation("log_metric", request, commit, 1, 1)
                commit += 1
        end = requests.finish_run(run_id, end_time(self._job.key, writer, cycle))
        yield Operation("finish_run", end, commit, 1, 1)

    def _traces(self, writer: int) -> Script:
        """Traces with their spans, and searches spread evenly among them."""
        return self._among(self._log_traces(writer), self._search_traces())

    def _search_traces(self) -> Script:
        while True:
            yield Operation("search_traces", self._traces_requests.search)

    def _log_traces(self, writer: int) -> Script:
        """A trace that was not started gets no spans: they would make it."""
        cycle = 0
        while True:
            request = self._traces_requests.start_trace(writer, cycle)
            if (yield Operation("start_trace", request, 2 * cycle, 1, 1)) is not None:
                yield Operation("log_spans", self._traces_requests.log_spans(writer, cycle), 2 * cycle + 1, 1, 1)
            cycle += 1


def _field(answer: bytes | None, *path: str) -> str | None:
    """A text within an ok answer; None of none, and of an answer that isn't MLflow's (a proxy's page, say)."""
    try:
        found = json.loads(answer or b"")
        for name in path:
            found = found[name]
    except (ValueError, LookupError, TypeError):
        return None
    return str(found)
