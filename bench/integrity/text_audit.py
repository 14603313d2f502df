"""Checks stored params and tags against the ledger."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench import identity
from bench.integrity.tally import HALVES, Tally, halves, wrongs
from bench.ledger import complete
from bench.stores.base import Row
from bench.workload import Layout


class TextAudit:
    """Params or tags of one trial's runs."""

    def __init__(self, layout: Layout, statuses: Sequence[NDArray[np.uint8]], what: Literal["param", "tag"]) -> None:
        self._layout, self._what = layout, what
        self._per_cycle = layout.workload.params if what == "param" else layout.workload.tags
        self._commit = layout.param_commit if what == "param" else layout.tag_commit
        self._key = layout.param_key if what == "param" else layout.tag_key
        self._statuses = [
            complete(status, layout.cycles_of(len(status)) * layout.commits_per_cycle) for status in statuses
        ]
        sizes = [layout.cycles_of(len(status)) * self._per_cycle for status in self._statuses]
        self._copies = [np.zeros(size, dtype=np.uint16) for size in sizes]
        self._exact = [np.zeros(size, dtype=np.uint16) for size in sizes]
        self.runs_seen: set[str] = set()
        self.tally = Tally()
        self.tally.invariants[HALVES] = 0

    def rows(self, rows: Sequence[Row]) -> None:
        """Take stored rows (run_uuid, key, value); MLflow's own run-name tag is not among them."""
        for run, key, value in rows:
            self.tally.stored += 1
            self.runs_seen.add(run)
            place = self._layout.key.locate_run(run)
            found = self._layout.locate_text(place[1], key, self._what) if place else None
            if place is None or found is None or not self._belongs(run, place[1], *found):
                self.tally.unexpected += 1
                self.tally.example(f"{self._what}s: run {run} key {key!r} was never sent")
                continue
            writer, ordinal = found
            self._copies[writer][ordinal] += 1
            if value == identity.text(self._layout.key, writer, ordinal, self._what):
                self._exact[writer][ordinal] += 1
            else:
                self.tally.example(f"{self._what}s: run {run} key {key!r} differs from what was sent")

    def _belongs(self, run: str, cycle: int, writer: int, ordinal: int) -> bool:
        """Whether that writer's ordinal lies within its ledger, and in this very run."""
        return ordinal < len(self._copies[writer]) and self._layout.run_id(writer, cycle) == run

    def close(self) -> Tally:
        """The counts, after all rows were taken."""
        for writer, status in enumerate(self._statuses):
            copies = self._copies[writer]
            commits = np.array([self._commit(n) for n in range(len(copies))], dtype=np.int64)
            self.tally.judge(status[commits], copies, self._exact[writer])
            for ordinal, words in wrongs(status[commits], copies):
                run = self._layout.run_id(writer, ordinal // self._per_cycle)
                self.tally.example(f"{self._what}s: run {run} key {self._key(writer, ordinal)!r} {words}")
            for commit in halves(commits, status[commits], copies):
                self.tally.invariants[HALVES] += 1
                self.tally.example(f"{self._what}s: writer {writer} commit {commit} is half there")
        return self.tally
