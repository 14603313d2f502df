"""Workloads as arithmetic: which rows a writer's n-th commit makes, and whose commit a stored row is.

A writer's work is a sequence of *cycles*; a cycle is a fixed sequence of commits. Rows are numbered by *ordinals*
per writer and table, so that commit, run, key and step of any row follow by division, and the way back (from a
stored row to its ordinal) as well. Both directions are here and nowhere else: writers use the first, the
integrity check the second.
"""

import random
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np

from bench.identity import I64, Flags, TrialKey

Kind = Literal["log_metric", "log_batch", "train", "read", "mixed", "traces", "bulk"]
KINDS: tuple[Kind, ...] = ("log_metric", "log_batch", "train", "read", "mixed", "traces", "bulk")

OPERATIONS = (
    "log_metric",
    "log_batch",
    "create_run",
    "log_param",
    "set_tag",
    "finish_run",
    "search_runs",
    "metric_history",
    "get_run",
    "bulk_insert",
    "create_experiment",
    "start_trace",
    "log_spans",
    "search_traces",
)
READS = frozenset({"search_runs", "metric_history", "get_run", "search_traces"})
_MAX_STEP = 1 << 40  # keeps step x keys within 64 bits
MAX_BATCH_METRICS, MAX_BATCH_PARAMS, MAX_BATCH_TAGS = 1000, 100, 100  # MLflow's own limits


@dataclass(frozen=True)
class Workload:
    """What each writer does. Counts are per operation, for ``train`` params and tags are per run.

    ``hot_run`` makes all writers share one run and its keys (``keys = 1`` is one hot key); ``fresh_keys`` gives
    each batch keys that the run has not seen; ``shuffled`` sends a batch's metrics in another order each time;
    ``lockstep`` makes the writers begin each operation together, the worst case for locks; ``read_share`` is the
    share of operations of ``mixed`` and ``traces`` that read. ``experiments`` gives each run of ``train`` an
    experiment of its own; ``spans`` is the number of spans of a trace.
    """

    name: str
    kind: Kind
    metrics: int = 1
    params: int = 0
    tags: int = 0
    keys: int = 3
    steps: int = 100
    hot_run: bool = False
    fresh_keys: bool = False
    shuffled: bool = False
    lockstep: bool = False
    read_share: float = 0.0
    experiments: bool = False
    spans: int = 8

    @property
    def operation(self) -> str:
        """The operation by which this workload writes metrics (``traces``: spans)."""
        if self.kind == "mixed":
            return "log_batch" if self.metrics + self.params + self.tags > 1 else "log_metric"
        named = {"bulk": "bulk_insert", "log_batch": "log_batch", "traces": "log_spans"}
        return named.get(self.kind, "log_metric")

    @property
    def metrics_per_operation(self) -> int:
        """How many metrics one ok `operation` stores."""
        return 0 if self.kind in ("read", "traces") else self.metrics

    @property
    def operations_per_run(self) -> int:
        """Operations that ``train`` needs for one run."""
        return self.experiments + 1 + self.params + self.tags + self.steps * self.keys + 1


@dataclass(frozen=True)
class Layout:
    """The arithmetic of one workload for one trial with ``writers`` writers."""

    key: TrialKey
    workload: Workload
    writers: int

    @cached_property
    def own_runs(self) -> bool:
        """Whether writers create the runs that they fill (``train``); otherwise the trial's set-up does."""
        return self.workload.kind == "train"

    @cached_property
    def metrics_per_cycle(self) -> int:
        """Metric rows of one cycle."""
        work = self.workload
        return work.steps * work.keys if self.own_runs else work.metrics_per_operation

    @cached_property
    def commits_per_cycle(self) -> int:
        """Commits of one cycle; for ``train``: experiment, create, params, tags, metrics, finish."""
        work = self.workload
        if self.own_runs:
            return work.operations_per_run
        if work.kind == "traces":
            return 2
        return (work.params > 0) + (work.metrics > 0) + (work.tags > 0)

    def setup_runs(self) -> list[tuple[int, int]]:
        """(writer, cycle) of the runs that must exist before the writers start."""
        if self.own_runs or self.workload.kind in ("read", "traces"):
            return []
        return [(0, 0)] if self.workload.hot_run else [(writer, 0) for writer in range(self.writers)]

    def run_id(self, writer: int, cycle: int) -> str:
        """The run that ``writer`` writes to in ``cycle``."""
        if self.own_runs:
            return self.key.run_id(writer, cycle)
        return self.key.run_id(0 if self.workload.hot_run else writer, 0)

    # Commits

    def cycles_of(self, commits: int) -> int:
        """How many cycles ``commits`` commits touch."""
        return -(-commits // self.commits_per_cycle) if self.commits_per_cycle else 0

    def metric_commits(self, ordinals: I64) -> I64:
        """The commit that stores each metric ordinal."""
        work = self.workload
        if self.own_runs:
            cycle, within = np.divmod(ordinals, self.metrics_per_cycle)
            return np.asarray(cycle * self.commits_per_cycle + self._first + work.params + work.tags + within)
        return np.asarray(ordinals // self.metrics_per_cycle * self.commits_per_cycle + (work.params > 0))

    def param_commit(self, ordinal: int) -> int:
        """The commit that stores param ``ordinal``."""
        cycle, within = divmod(ordinal, self.workload.params)
        return cycle * self.commits_per_cycle + (self._first + within if self.own_runs else 0)

    def tag_commit(self, ordinal: int) -> int:
        """The commit that stores tag ``ordinal``."""
        cycle, within = divmod(ordinal, self.workload.tags)
        if self.own_runs:
            return cycle * self.commits_per_cycle + self._first + self.workload.params + within
        return (cycle + 1) * self.commits_per_cycle - 1

    @property
    def _first(self) -> int:
        """How many commits of a cycle of ``train`` come before its params."""
        return self.workload.experiments + 1

    def experiment_commit(self, cycle: int) -> int:
        """The commit that creates the experiment of ``cycle`` (``train`` with ``experiments`` only)."""
        return cycle * self.commits_per_cycle

    def create_commit(self, cycle: int) -> int:
        """The commit that creates the run of ``cycle`` (``train`` only)."""
        return cycle * self.commits_per_cycle + self.workload.experiments

    def finish_commit(self, cycle: int) -> int:
        """The commit that finishes the run of ``cycle`` (``train`` only)."""
        return (cycle + 1) * self.commits_per_cycle - 1

    # Where rows lie

    def metric_places(self, writer: int, ordinals: I64) -> tuple[list[str], list[int]]:
        """(keys, steps) of metric ordinals."""
        work = self.workload
        if work.fresh_keys:
            operation, position = np.divmod(ordinals, work.metrics)
            keys = [f"metric{n:08x}k{k:04x}" for n, k in zip(operation.tolist(), position.tolist(), strict=True)]
            return keys, [writer if work.hot_run else 0] * len(keys)
        within = ordinals % self.metrics_per_cycle if self.own_runs else ordinals
        step, position = np.divmod(within, work.keys)
        if work.hot_run:
            step = step * self.writers + writer
        names = [f"metric{n:04x}" for n in range(work.keys)]
        return [names[n] for n in position.tolist()], step.tolist()

    def locate_metrics(
        self, writer: I64, cycle: I64, operation: I64, position: I64, step: I64
    ) -> tuple[I64, I64, Flags]:
        """(writer, ordinal, valid) of stored rows: `metric_places` turned round, for arrays of equal length.

        ``writer`` and ``cycle`` come from the run id, ``operation`` and ``position`` from `parse_key`. ``valid``
        is false where no writer ever makes such a row.
        """
        work = self.workload
        valid = (position >= 0) & (step >= 0) & (step < _MAX_STEP) & ((operation >= 0) == work.fresh_keys)
        step = np.where(valid, step, 0)
        if work.fresh_keys:
            if work.hot_run:
                writer, valid = step, valid & (step < self.writers)
            else:
                valid &= step == 0
            return writer, operation * work.metrics + position, valid & (position < work.metrics)
        valid &= position < work.keys
        if work.hot_run:
            step, writer = np.divmod(step, self.writers)
        ordinal = step * work.keys + position
        if self.own_runs:
            return writer, cycle * self.metrics_per_cycle + ordinal, valid & (step < work.steps)
        return writer, ordinal, valid

    def param_key(self, writer: int, ordinal: int) -> str:
        """The key of param ``ordinal``; unique within its run."""
        return f"param{writer:04x}n{ordinal % self.workload.params if self.own_runs else ordinal:08x}"

    def tag_key(self, writer: int, ordinal: int) -> str:
        """The key of tag ``ordinal``; unique within its run."""
        return f"tag{writer:04x}n{ordinal % self.workload.tags if self.own_runs else ordinal:08x}"

    def locate_text(self, cycle: int, key: str, what: Literal["param", "tag"]) -> tuple[int, int] | None:
        """(writer, ordinal) of a stored param or tag, or None where no writer makes that key."""
        per_cycle = self.workload.params if what == "param" else self.workload.tags
        name = self.param_key if what == "param" else self.tag_key
        try:
            writer, number = int(key[len(what) : len(what) + 4], 16), int(key[len(what) + 5 :], 16)
        except ValueError:
            return None
        if per_cycle == 0 or writer >= self.writers or (self.own_runs and number >= per_cycle):
            return None
        ordinal = cycle * per_cycle + number if self.own_runs else number
        return (writer, ordinal) if name(writer, ordinal) == key else None

    def batch_order(self, writer: int, operation: int) -> list[int]:
        """In which order the metrics of a batch are sent."""
        order = list(range(self.workload.metrics))
        if self.workload.shuffled:
            random.Random(f"{self.key.word}/{writer}/{operation}").shuffle(order)
        return order


@lru_cache(65_536)
def parse_key(key: str) -> tuple[int, int]:
    """(operation or -1, position) of a metric key; (-1, -1) where it is none of ours."""
    head, _, tail = key.removeprefix("metric").partition("k")
    try:
        operation, position = (int(head, 16), int(tail, 16)) if tail else (-1, int(head, 16))
    except ValueError:
        return -1, -1
    if max(operation, position) > 0xFFFFFFFF:
        return -1, -1
    again = f"metric{position:04x}" if operation < 0 else f"metric{operation:08x}k{position:04x}"
    return (operation, position) if again == key else (-1, -1)
