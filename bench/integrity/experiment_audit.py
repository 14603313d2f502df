"""Checks stored experiments against the ledger, where each run of ``train`` has one of its own."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bench.integrity.tally import Tally
from bench.ledger import complete
from bench.outcome import Outcome
from bench.stores.base import Row
from bench.workload import Layout


class ExperimentAudit:
    """Experiments that a trial's writers made; an experiment has the name of its run."""

    def __init__(self, layout: Layout, statuses: Sequence[NDArray[np.uint8]]) -> None:
        self._layout = layout
        self._statuses = statuses if layout.workload.experiments else []
        self._copies: Counter[tuple[int, int]] = Counter()
        self._active: Counter[tuple[int, int]] = Counter()
        self.tally = Tally()

    def rows(self, rows: Sequence[Row]) -> None:
        """Take rows (experiment_id, name, lifecycle_stage)."""
        for _, name, stage in rows:
            self.tally.stored += 1
            place = self._layout.key.locate_name(name)
            if place is None or not self._planned(*place):
                self.tally.unexpected += 1
                self.tally.example(f"experiments: {name!r} was never created")
                continue
            self._copies[place] += 1
            self._active[place] += stage == "active"

    def _planned(self, writer: int, cycle: int) -> bool:
        if writer >= len(self._statuses):
            return False
        return self._layout.experiment_commit(cycle) < len(self._statuses[writer])

    def close(self) -> Tally:
        """The counts, after all rows were taken."""
        for writer, status in enumerate(self._statuses):
            cycles = range(self._layout.cycles_of(len(status)))
            whole = complete(status, len(cycles) * self._layout.commits_per_cycle)
            for cycle in cycles:
                self._judge((writer, cycle), int(whole[self._layout.experiment_commit(cycle)]))
        return self.tally

    def _judge(self, place: tuple[int, int], status: int) -> None:
        before = self.tally.wrong
        copies, active = self._copies[place], self._active[place]
        self.tally.judge(np.array([status], np.uint8), np.array([copies], np.uint16), np.array([active], np.uint16))
        if self.tally.wrong > before:
            name = self._layout.key.name(*place)
            said = Outcome(status).name.lower()
            self.tally.example(f"experiments: {name!r}: ledger says {said}, {copies} stored, {active} active")
