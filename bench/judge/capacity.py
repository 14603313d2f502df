"""Capacity: the highest offered rate at which a latency objective holds, and where latency takes off."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.cell import CLOSED, Cell, Criterion
from bench.judge.criteria import Rule, judge, percent
from bench.results import Capacity

ANSWERED = 0.95  # of what was due: below it a queue grew, and latency says how long the test was
TAKES_OFF = 2.0  # times the latency of the lowest rate


def capacities(cells: Sequence[Cell], objectives: Mapping[tuple[str, str, int], str]) -> list[Capacity]:
    """For each candidate and each place that has an objective, the highest rate that met it.

    ``objectives``: a criterion's expression (``p99_ms <= 250``) by (driver, workload, concurrency). A rate meets it if
    its open loop passes the criterion and answered what was due. One that is inconclusive does not meet it.
    """
    found = []
    for place, objective in objectives.items():
        here = [cell for cell in cells if (cell.driver, cell.workload, cell.concurrency) == place]
        for candidate in dict.fromkeys(cell.candidate for cell in here):
            found.append(_capacity([cell for cell in here if cell.candidate == candidate], objective))
    return found


@dataclass(frozen=True)
class _Step:
    """One offered rate; ``rate`` is None where no round of it was measured."""

    cell: Cell
    rate: float | None
    answered: float | None
    judged: Criterion

    @property
    def holds(self) -> bool:
        return self.rate is not None and self.kept_up and self.judged.outcome == "pass"

    @property
    def kept_up(self) -> bool:
        return self.answered is not None and self.answered >= ANSWERED

    @property
    def at(self) -> str:
        rate = "" if self.rate is None else f"{_short(self.rate)}/s"
        return f"{rate} ({self.cell.load})" if rate and self.cell.load.endswith("%") else rate or self.cell.load

    @property
    def told(self) -> str:
        """What was seen at this rate."""
        name, measured = self.judged.field.removesuffix("_ms").replace(".", " "), self.judged.measured
        if measured is None:
            return f"{name} at {self.at} is not known: {self.judged.reason}"
        unit = f" {self.judged.unit}" if self.judged.unit == "ms" else self.judged.unit
        value = f"{name} {_short(measured)}{unit} at {self.at}"
        if self.answered is not None and not self.kept_up:
            return f"{value}, where {percent(self.answered)} of what was due was answered"
        return f"{value}, inconclusive: {self.judged.reason}" if self.judged.outcome == "inconclusive" else value


def _capacity(cells: Sequence[Cell], objective: str) -> Capacity:
    """That of one candidate; ``cells``: all of one place, at least one."""
    rule = Rule("objective", objective, gating=False)
    every = [_step(cell, judge(rule, cell, None)) for cell in cells if cell.load != CLOSED]
    steps = sorted((one for one in every if one.rate is not None), key=lambda one: one.rate or 0.0)
    first = next((number for number, one in enumerate(steps) if not one.holds), len(steps))
    best, worst = (steps[first - 1] if first else None), (steps[first] if first < len(steps) else None)
    closed = next((cell for cell in cells if cell.load == CLOSED), None)
    return Capacity(
        candidate=cells[0].candidate,
        driver=cells[0].driver,
        workload=cells[0].workload,
        concurrency=cells[0].concurrency,
        objective=objective,
        holds=None if best is None else best.rate,
        holds_load=None if best is None else best.cell.load,
        breaks=None if worst is None else worst.rate,
        breaks_load=None if worst is None else worst.cell.load,
        maximum=None if closed is None else closed.ops_per_s,
        reason=_reason(best, worst, [one for one in every if one.rate is None]),
    )


def _step(cell: Cell, judged: Criterion) -> _Step:
    """``answered`` is the share of what was due in the measured time that was answered ok within it."""
    schedule = cell.schedule
    answered = None
    if schedule is not None and schedule.due and cell.ops_per_s is not None:
        answered = cell.ops_per_s * cell.seconds / schedule.due
    return _Step(cell, None if schedule is None else schedule.rate, answered, judged)


def _reason(best: _Step | None, worst: _Step | None, unknown: Sequence[_Step]) -> str:
    parts = [one.told for one in (best, worst) if one is not None]
    if best is not None and worst is None:
        parts.append("no higher rate was tried")
    if not parts:
        parts.append("no open loop of it was measured")
    if unknown:
        parts.append(f"not measured: {', '.join(one.cell.load for one in unknown)}")
    return "; ".join(parts)


def knee(points: Sequence[tuple[float, float]]) -> int | None:
    """The index of the last of ``points`` (rate, latency; in order of rate) before latency takes off, or None.

    It takes off if it ever reaches `TAKES_OFF` times the first: below that, waiting takes no longer than the work.
    The knee is then Kneedle's, on the logarithm of latency (Satopää et al., Finding a "Kneedle" in a Haystack, 2011):
    the point furthest below the line from the first point to the highest. Where latency climbs evenly from the
    beginning, that is the first point.
    """
    if len(points) < 2:
        return None
    logs = [math.log(max(latency, 1e-9)) for _, latency in points]
    top = max(range(len(logs)), key=lambda number: logs[number])
    rise, width = logs[top] - logs[0], points[top][0] - points[0][0]
    if rise < math.log(TAKES_OFF) or width <= 0:
        return None
    below = [
        (rate - points[0][0]) / width - (log - logs[0]) / rise
        for (rate, _), log in zip(points[:top], logs, strict=False)
    ]
    return max(range(top), key=lambda number: (round(below[number], 9), -number))


def _short(number: float) -> str:
    return f"{number:.3g}" if abs(number) < 1000 else f"{number:.0f}"
