"""Checks stored runs, their name tags and their ends against the ledger."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bench import identity
from bench.identity import TrialKey, run_name
from bench.integrity.tally import Tally
from bench.ledger import complete
from bench.outcome import Outcome
from bench.stores.base import Row
from bench.stores.tracking import RunRow
from bench.workload import Layout


def run_row(key: TrialKey, writer: int, cycle: int, experiment_id: int, artifact_root: str) -> RunRow:
    """What the run of (writer, cycle) is made from."""
    run_id = key.run_id(writer, cycle)
    start = identity.moment(key, writer, cycle)
    return RunRow(run_id, run_name(run_id), "trackbench", start, experiment_id, f"{artifact_root}/{run_id}/artifacts")


def end_time(key: TrialKey, writer: int, cycle: int) -> int:
    """When the run of (writer, cycle) ends, in ms."""
    return identity.moment(key, writer, cycle) + 1000 + cycle


class RunAudit:
    """Runs of one trial, whether their writers created them or its set-up did."""

    def __init__(self, layout: Layout, statuses: Sequence[NDArray[np.uint8]], experiment_id: int) -> None:
        self._layout = layout
        self._experiment_id = experiment_id
        self._statuses = [
            complete(status, layout.cycles_of(len(status)) * layout.commits_per_cycle) for status in statuses
        ]
        self._rows: dict[tuple[int, int], list[Row]] = {}
        self.run_ids: set[str] = set()
        self.tally = Tally()
        for name in ("run ids are unique", "runs have their experiment", "status and end time agree"):
            self.tally.invariants[name] = 0

    def rows(self, rows: Sequence[Row]) -> None:
        """Take rows (run_uuid, name, status, start_time, end_time, lifecycle_stage, experiment_id)."""
        for row in rows:
            self.tally.stored += 1
            place = self._layout.key.locate_run(row[0])
            if place is None:
                self.tally.unexpected += 1
                self.tally.example(f"runs: run {row[0]} was never created")
                continue
            if row[0] in self.run_ids:
                self.tally.invariants["run ids are unique"] += 1
                self.tally.example(f"runs: run {row[0]} is there more than once")
            self.run_ids.add(row[0])
            self._rows.setdefault(place, []).append(row)

    def close(self) -> Tally:
        """The counts, after all rows were taken."""
        planned = {place: int(Outcome.OK) for place in self._layout.setup_runs()}
        finished: dict[tuple[int, int], int] = {}
        if self._layout.own_runs:
            for writer, status in enumerate(self._statuses):
                for cycle in range(self._layout.cycles_of(len(status))):
                    planned[writer, cycle] = int(status[self._layout.create_commit(cycle)])
                    finished[writer, cycle] = int(status[self._layout.finish_commit(cycle)])
        for place in self._rows.keys() - planned.keys():
            self.tally.unexpected += 1
            self.tally.example(f"runs: writer {place[0]} never planned its run {place[1]}")
        for place, status_byte in planned.items():
            self._judge_run(place, status_byte, finished.get(place, int(Outcome.UNTOUCHED)))
        return self.tally

    def _judge_run(self, place: tuple[int, int], created: int, finished: int) -> None:
        rows = self._rows.get(place, [])
        right = [row for row in rows if self._is_right(place, row)]
        self._element(created, len(rows), len(right), f"runs: run {self._layout.key.run_id(*place)}")
        ended = [row for row in rows if row[2] == "FINISHED" or row[4] is not None]
        right_end = [row for row in ended if row[4] == end_time(self._layout.key, *place)]
        self._element(finished, len(ended), len(right_end), f"runs: the end of {self._layout.key.run_id(*place)}")
        for row in rows:
            if (row[2] == "FINISHED") != (row[4] is not None):
                self.tally.invariants["status and end time agree"] += 1
                self.tally.example(f"runs: run {row[0]} is {row[2]} and {'has no' if row[4] is None else 'has an'} end")
            if row[6] != self._experiment_id:
                self.tally.invariants["runs have their experiment"] += 1
                self.tally.example(f"runs: run {row[0]} lies in another experiment")

    def _is_right(self, place: tuple[int, int], row: Row) -> bool:
        start = identity.moment(self._layout.key, *place)
        known = row[2] in ("RUNNING", "FINISHED") and row[5] == "active"
        return bool(known and row[1] == run_name(row[0]) and row[3] == start)

    def _element(self, status: int, copies: int, exact: int, what: str) -> None:
        before = self.tally.wrong
        one = (np.array([status], np.uint8), np.array([copies], np.uint16), np.array([exact], np.uint16))
        self.tally.judge(*one)
        if self.tally.wrong > before:
            self.tally.example(f"{what}: ledger says {Outcome(status).name.lower()}, {copies} stored, {exact} right")
