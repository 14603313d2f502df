"""Which cells speak for a workload: its closed loop for throughput, one of its open loops for latency."""

from collections import Counter
from dataclasses import dataclass
from typing import Final

from bench.cell import Cell
from bench.results import Results
from reports.figures import rate
from reports.judged import is_open, load_words

HIGHEST_HEADLINE: Final = 20
USUAL_SHARE: Final = 0.8
"""Of the maximum: the load at which latencies are told, unless criteria judge another one more often."""

_KEPT_UP: Final = 0.95
_SAME: Final = 1.001


@dataclass(frozen=True)
class Chosen:
    """The cells of a workload at its headline concurrency: those of the closed loop and those of one open loop."""

    driver: str
    workload: str
    concurrency: int
    closed: tuple[Cell, ...]
    opened: tuple[Cell, ...]

    @property
    def loops(self) -> tuple[tuple[Cell, ...], ...]:
        """The closed loop's cells and the open loop's, whichever there are."""
        return tuple(each for each in (self.closed, self.opened) if each)

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All of them."""
        return self.closed + self.opened

    @property
    def rate(self) -> float | None:
        """The one rate that all candidates were offered, where it was the same for all of several."""
        rates = [cell.schedule.rate for cell in self.opened if cell.schedule]
        return rates[0] if len(rates) > 1 and max(rates) <= _SAME * min(rates) else None

    @property
    def pace(self) -> str:
        """What the open loop offered: ``80 % load``, or ``92/s each`` where that is the same rate for all."""
        if not self.opened:
            return ""
        return load_words(self.opened[0].load) if self.rate is None else f"{rate(self.rate)} each"

    @property
    def speed(self) -> tuple[Cell, ...]:
        """The cells that say how fast a store is: it gives its maximum in a closed loop only."""
        return self.closed or self.opened

    @property
    def tail(self) -> tuple[Cell, ...]:
        """The cells that say how long users wait: an open loop's, where one was measured."""
        return self.opened or self.closed


def choose(results: Results) -> list[Chosen]:
    """The most telling cells of each (driver, workload), the main workload first."""
    found = [_of(results, *key) for key in dict.fromkeys((cell.driver, cell.workload) for cell in results.cells)]
    return sorted(found, key=lambda each: _weight(results, each), reverse=True)


def _of(results: Results, driver: str, workload: str) -> Chosen:
    concurrency = headline_concurrency(results, driver, workload)
    cells = [each for each in _cells(results, driver, workload) if each.concurrency == concurrency]
    load = _headline_load(results, cells)
    return Chosen(
        driver=driver,
        workload=workload,
        concurrency=concurrency or 0,
        closed=tuple(each for each in cells if not is_open(each)),
        opened=tuple(each for each in cells if is_open(each) and each.load == load),
    )


def _weight(results: Results, chosen: Chosen) -> tuple[bool, bool, int]:
    """How much a workload says of the run: through a server rather than direct, writes, gating criteria."""
    writes = any(cell.metrics_per_s is not None for cell in chosen.cells)
    return chosen.driver == "http", writes, sum(gating_at(results, chosen.driver, chosen.workload).values())


def headline_concurrency(results: Results, driver: str, workload: str) -> int | None:
    """The concurrency that most gating criteria judge; of equals one with an open loop, then the higher.

    Without any, the highest up to 20.
    """
    present: dict[int, bool] = {}
    for cell in _cells(results, driver, workload):
        present[cell.concurrency] = present.get(cell.concurrency, False) or is_open(cell)
    if not present:
        return None
    votes = gating_at(results, driver, workload)
    judged = [each for each in votes if each in present]
    if judged:
        return max(judged, key=lambda each: (votes[each], present[each], each))
    return max((each for each in present if each <= HIGHEST_HEADLINE), default=min(present))


def gating_at(results: Results, driver: str, workload: str) -> Counter[int]:
    """How many gating criteria judge each concurrency of a workload."""
    judged = (each for each in results.criteria if each.gating and not each.fault)
    return Counter(each.concurrency for each in judged if (each.driver, each.workload) == (driver, workload))


def _headline_load(results: Results, cells: list[Cell]) -> str | None:
    """The open loop that most gating criteria judge; of equals the share nearest to the usual one.

    Of absolute rates the highest that every store kept up with, for there all of them can be compared.
    """
    loads: dict[str, list[Cell]] = {}
    for cell in cells:
        if is_open(cell):
            loads.setdefault(cell.load, []).append(cell)
    votes = Counter(
        each.load
        for each in results.criteria
        if each.gating and any(_is_about(each.driver, each.workload, each.concurrency, cell) for cell in cells)
    )
    return max(loads, key=lambda each: (votes[each], *_telling(loads[each])), default=None)


def _is_about(driver: str, workload: str, concurrency: int, cell: Cell) -> bool:
    return (driver, workload, concurrency) == (cell.driver, cell.workload, cell.concurrency)


def _telling(cells: list[Cell]) -> tuple[float, bool, float]:
    """How much an open loop's latencies say: nearness to the usual share, whether all kept up, the rate offered."""
    shares = [each.schedule.share for each in cells if each.schedule and each.schedule.share is not None]
    rates = [each.schedule.rate for each in cells if each.schedule]
    far = abs(shares[0] - USUAL_SHARE) if shares else 0.0
    kept = not any(map(overloaded, cells))
    return -far, kept, max(rates, default=0.0) * (1 if kept else -1)


def answered(cell: Cell) -> float | None:
    """The share of an open loop's arrivals that was answered while it was measured; None of a closed loop."""
    if cell.schedule is None or cell.ops_per_s is None or not cell.schedule.due or not cell.seconds:
        return None
    return cell.ops_per_s * cell.seconds / cell.schedule.due


def overloaded(cell: Cell) -> bool:
    """Whether an open loop was offered more than was answered: its queue grew, so latency says how long it ran."""
    if cell.schedule is None:
        return False
    part = answered(cell)
    return part is None or part < _KEPT_UP


def _cells(results: Results, driver: str, workload: str) -> list[Cell]:
    return [each for each in results.cells if (each.driver, each.workload) == (driver, workload)]
