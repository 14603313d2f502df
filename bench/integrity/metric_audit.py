"""Checks stored metrics and latest_metrics against the ledger, a few bytes a row, whatever the number of rows."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bench import identity
from bench.identity import F64, I64, Flags
from bench.integrity.tally import HALVES, MAX_EXAMPLES, Tally, halves, wrongs
from bench.ledger import complete
from bench.stores.base import Row
from bench.workload import Layout, parse_key

_CHUNK = 1 << 20
_MAX_NAMES = 1 << 16  # as many names are kept, that is about 20 MB at most
_LATEST = "latest_metrics is the maximum"
_Columns = tuple[Sequence[str], Sequence[str], I64, I64, F64, Flags]  # run, key, step, timestamp, value, is_nan


class MetricAudit:
    """Metrics and latest_metrics of one trial's runs."""

    def __init__(self, layout: Layout, statuses: Sequence[NDArray[np.uint8]]) -> None:
        self._layout = layout
        commits = [layout.cycles_of(len(status)) * layout.commits_per_cycle for status in statuses]
        self._statuses = [complete(status, n) for status, n in zip(statuses, commits, strict=True)]
        self._limits = np.array(
            [layout.cycles_of(n) * layout.metrics_per_cycle for n in commits] or [0], dtype=np.int64
        )
        self._offsets = np.concatenate([[0], np.cumsum(self._limits)])
        self._copies = np.zeros(self._offsets[-1], dtype=np.uint16)
        self._exact = np.zeros(self._offsets[-1], dtype=np.uint16)
        self._latest: list[NDArray[np.int64]] = []
        self._stored_latest: list[NDArray[np.int64]] = []
        self._last_key: tuple[str, str] | None = None
        self._last_row: NDArray[np.int64] | None = None
        self._names: dict[int, tuple[str, str]] = {}  # run and key by their hash; of many, some
        per_commit = 1 if layout.own_runs else max(layout.metrics_per_cycle, 1)
        self._chunk = max(_CHUNK // per_commit, 1) * per_commit  # whole commits
        self.runs_seen: set[str] = set()
        self.tally = Tally()
        self.tally.invariants.update({_LATEST: 0, HALVES: 0})

    def metrics(self, rows: Sequence[Row]) -> None:
        """Take stored rows (run_uuid, key, step, timestamp, value, is_nan), sorted by their first five columns."""
        columns = _columns(rows)
        runs, keys, step, timestamp, value, is_nan = columns
        self.tally.stored += len(rows)
        self.runs_seen.update(runs)
        owner, ordinal, valid = self._locate(runs, keys, step)
        expected_time, logged = identity.metrics(self._layout.key, owner, ordinal)
        expected, expected_nan = identity.as_stored(logged)
        right = (expected_time == timestamp) & (_bits(expected) == _bits(value)) & (expected_nan == is_nan)
        index = self._offsets[owner[valid]] + ordinal[valid]
        np.add.at(self._copies, index, 1)
        np.add.at(self._exact, index[right[valid]], 1)
        self.tally.unexpected += int(np.count_nonzero(~valid))
        for wrong in np.flatnonzero(~valid | ~right)[:MAX_EXAMPLES]:
            what = "differs from what was sent" if valid[wrong] else "was never sent"
            self.tally.example(f"metrics: run {runs[wrong]} key {keys[wrong]!r} step {step[wrong]} {what}")
        self._keep_latest(runs, keys, _pack(columns))

    def latest(self, rows: Sequence[Row]) -> None:
        """Take stored rows of latest_metrics (same columns), in any order."""
        columns = _columns(rows)
        self.runs_seen.update(columns[0])
        packed = _pack(columns)
        self._stored_latest.append(packed)
        self._remember(packed, list(zip(columns[0], columns[1], strict=True)))

    def close(self) -> Tally:
        """The counts, after all rows were taken."""
        for writer, status in enumerate(self._statuses):
            for start in range(0, int(self._limits[writer]), self._chunk):
                ordinals = np.arange(start, min(start + self._chunk, int(self._limits[writer])))
                part = slice(self._offsets[writer] + start, self._offsets[writer] + start + len(ordinals))
                self._judge(writer, ordinals, status, part)
        self._end_group()
        wrong = _differing(self._latest, self._stored_latest)
        self.tally.invariants[_LATEST] += len(wrong)
        for name in wrong:
            run, key = self._names.get(name, ("?", "?"))
            self.tally.example(f"latest_metrics: run {run} key {key!r} is not the maximum of its metrics")
        return self.tally

    def _judge(self, writer: int, ordinals: I64, status: NDArray[np.uint8], part: slice) -> None:
        """Count some of a writer's metrics; ``part`` is where their copies are."""
        commits, copies = self._layout.metric_commits(ordinals), self._copies[part]
        self.tally.judge(status[commits], copies, self._exact[part])
        for position, words in wrongs(status[commits], copies):
            ordinal = ordinals[position : position + 1]
            ((key,), (step,)) = self._layout.metric_places(writer, ordinal)
            run = self._layout.run_id(writer, int(ordinal[0]) // self._layout.metrics_per_cycle)
            self.tally.example(f"metrics: run {run} key {key!r} step {step} {words}")
        for commit in halves(commits, status[commits], copies):
            self.tally.invariants[HALVES] += 1
            self.tally.example(f"metrics: writer {writer} commit {commit} is half there")

    def _locate(self, runs: Sequence[str], keys: Sequence[str], step: I64) -> tuple[I64, I64, Flags]:
        places = {run: self._layout.key.locate_run(run) for run in set(runs)}
        known = [places[run] or (-1, -1) for run in runs]
        writer, cycle = np.array(known, dtype=np.int64).T
        operation, position = np.array([parse_key(key) for key in keys], dtype=np.int64).T
        owner, ordinal, valid = self._layout.locate_metrics(writer, cycle, operation, position, step)
        valid &= (writer >= 0) & (owner >= 0) & (owner < len(self._limits)) & (ordinal >= 0)
        owner = np.where(valid, owner, 0)
        valid &= ordinal < self._limits[owner]
        return owner, np.where(valid, ordinal, 0), valid

    def _keep_latest(self, runs: Sequence[str], keys: Sequence[str], packed: NDArray[np.int64]) -> None:
        first = (runs[0], keys[0])
        if self._last_key != first:
            self._end_group()
        ends = np.flatnonzero(packed[1:, 0] != packed[:-1, 0])
        self._latest.append(packed[ends])
        self._remember(packed[ends], [(runs[n], keys[n]) for n in ends[:_MAX_NAMES]])
        self._last_key, self._last_row = (runs[-1], keys[-1]), packed[-1]

    def _end_group(self) -> None:
        """The last row that was taken is the latest of its key."""
        if self._last_row is not None and self._last_key is not None:
            self._latest.append(self._last_row[np.newaxis, :])
            self._remember(self._latest[-1], [self._last_key])

    def _remember(self, packed: NDArray[np.int64], pairs: Sequence[tuple[str, str]]) -> None:
        """Which run and key packed rows are of, for the words about those that are wrong."""
        if len(self._names) < _MAX_NAMES:
            self._names.update(zip(packed[: len(pairs), 0].tolist(), pairs, strict=True))


def _columns(rows: Sequence[Row]) -> _Columns:
    runs, keys, step, timestamp, value, is_nan = zip(*rows, strict=True)
    return (
        runs,
        keys,
        np.array(step, dtype=np.int64),
        np.array(timestamp, dtype=np.int64),
        np.array(value, dtype=np.float64),
        np.array(is_nan, dtype=np.bool_),
    )


def _bits(value: F64) -> NDArray[np.int64]:
    """The doubles' bits, with -0.0 taken as 0.0: SQLite keeps no sign of zero."""
    return (value + 0.0).view(np.int64)


def _pack(columns: _Columns) -> NDArray[np.int64]:
    """(hash of run and key, step, timestamp, bits, is_nan) a row: 40 bytes, whatever the names' lengths."""
    runs, keys, step, timestamp, value, is_nan = columns
    names = np.array([hash(pair) for pair in zip(runs, keys, strict=True)], dtype=np.int64)
    return np.column_stack([names, step, timestamp, _bits(value), is_nan.astype(np.int64)])


def _differing(expected: list[NDArray[np.int64]], stored: list[NDArray[np.int64]]) -> list[int]:
    """The (run, key) hashes that have another latest metric than the maximum of their metrics, or none, or two."""
    empty = np.zeros((0, 5), dtype=np.int64)
    left, right = (np.concatenate([empty, *parts]) for parts in (expected, stored))
    rows, inverse = np.unique(np.concatenate([left, right]), axis=0, return_inverse=True)
    once_left = np.bincount(inverse[: len(left)], minlength=len(rows)) == 1
    once_right = np.bincount(inverse[len(left) :], minlength=len(rows)) == 1
    found: list[int] = np.unique(rows[~(once_left & once_right)][:, 0]).tolist()
    return found
