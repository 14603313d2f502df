"""Honesty marks: what a reader must know before believing a figure, found in the results themselves."""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from bench.cell import CLOSED, Cell, Criterion
from bench.judge.criteria import percent
from bench.results import Mark, Results

STEAL, OTHERS, NOISE = 0.01, 0.10, 0.10  # shares of the CPU time; standard deviation between rounds, of the log
FEWEST_ROUNDS = 6  # with five, two equal stores pass a 20 % margin in little more than half of all runs
CLOCK_MS = 50.0
_OWN_LAG_MS, _OWN_LAG_SHARE = 1.0, 0.05  # of the generator's own lag at p99: of the median latency
_LOOP_LAG_MS, _LOOP_LAG_SHARE = 5.0, 0.10  # of the event loop's lag at p99: of the p99 that is reported


def marks(results: Results) -> list[Mark]:
    """What holds of this run, those that weigh most first; one short text each, collapsed over cells."""
    found = [mark for part in _PARTS for mark in part(results)]
    return list(dict.fromkeys(found))


def _generator(results: Results) -> list[Mark]:
    text = "the load generator may have been what limits (CPU, or lag of its event loop)"
    return _in_cells("generator", text, results.cells, _saturated)


def _saturated(cell: Cell) -> str | None:
    own, response = cell.generator, cell.latency_ms.response
    if own.saturated:
        return own.reason or "it was saturated"
    lag, tail = own.loop_lag_p99_ms, response.p99 or response.max or 0.0
    if lag is not None and lag > max(_LOOP_LAG_MS, _LOOP_LAG_SHARE * tail):
        return f"its event loop lagged by {lag:.1f} ms at p99"
    return None


def _schedule(results: Results) -> list[Mark]:
    text = "the load generator sent operations late that it could have sent"
    return _in_cells("schedule", text, results.cells, _late)


def _late(cell: Cell) -> str | None:
    own = None if cell.schedule is None else cell.schedule.own_lag_ms.p99
    if own is None or own <= max(_OWN_LAG_MS, _OWN_LAG_SHARE * (cell.latency_ms.response.p50 or 0.0)):
        return None
    return f"{own:.1f} ms at p99"


def _noisy(results: Results) -> list[Mark]:
    found = []
    steal, others = results.machine.steal_share, results.machine.others_share
    if steal is not None and steal > STEAL:
        found.append(f"a hypervisor took {percent(steal)} of the CPU time in the worst trial")
    if others is not None and others > OTHERS:
        found.append(f"other programs used {percent(others)} of the CPU time")
    noisy = [one for one in _gating(results) if one.noise is not None and one.noise > NOISE]
    if noisy:
        worst = max(noisy, key=lambda one: one.noise or 0.0)
        found.append(
            f"rounds differ by more than {percent(NOISE)} in {_of(len(_spots(noisy)), _gating_cells(results))}, "
            f"most in {_spot(worst)}: {worst.field} by {percent(worst.noise or 0.0)}"
        )
    return [Mark(kind="noisy", text=text) for text in found]


def _control(results: Results) -> list[Mark]:
    if results.control is None:
        return []
    seen = [one for one in results.control.comparisons if one.outcome in ("better", "worse")]
    if not seen:
        return []
    figures = ", ".join(f"{one.field} {one.outcome} (ratio {one.ratio:.2f})" for one in seen if one.ratio is not None)
    text = f"the A/A control sees a difference where there is none, in {_spot(results.control)}: {figures}"
    return [Mark(kind="control", text=text)]


def _rounds(results: Results) -> list[Mark]:
    gating = _gating_cells(results)
    text = f"fewer than {FEWEST_ROUNDS} rounds"
    found = _in_cells("rounds", text, gating, lambda cell: str(cell.rounds) if cell.rounds < FEWEST_ROUNDS else None)
    lacking = [one for one in _gating(results) if one.outcome == "inconclusive" and one.rounds_needed is not None]
    if lacking:
        many = f"{len(lacking)} gating criteria are" if len(lacking) > 1 else "1 gating criterion is"
        first = lacking[0]
        text = (
            f"{many} undecided for lack of rounds, first {first.name} ({_spot(first)}): "
            f"about {first.rounds_needed} in all would do"
        )
        found.append(Mark(kind="rounds", text=text))
    return found


def _clock(results: Results) -> list[Mark]:
    step = results.machine.clock_step_ms
    if abs(step) <= CLOCK_MS:
        return []
    return [Mark(kind="clock", text=f"the wall clock stepped by {step:.0f} ms during a trial")]


def _durability(results: Results) -> list[Mark]:
    loose = [one for one in results.candidates if one.durable is False]
    return [Mark(kind="durability", text=f"{one.name}: not durable: {one.durability}") for one in loose]


def _versions(results: Results) -> list[Mark]:
    found = [
        f"{one.name}: its schema ({one.schema_revision or 'of no revision'}) is not the one that our MLflow wants"
        for one in results.candidates
        if one.schema_current is False
    ]
    settings: dict[str, dict[str, str]] = {
        "their schema's revision": {one.name: one.schema_revision for one in results.candidates if one.schema_revision}
    }
    for one in results.candidates:
        for key, value in one.tracking.items():
            settings.setdefault(f"the tracking server's {key}", {})[one.name] = value
    for what, values in settings.items():
        if len(set(values.values())) > 1:
            told = ", ".join(f"{name} {value}" for name, value in values.items())
            found.append(f"candidates differ in {what}: {told}")
    return [Mark(kind="versions", text=text) for text in found]


def _unsteady(results: Results) -> list[Mark]:
    def rounds(cell: Cell) -> str | None:
        return f"{cell.unsteady} of {cell.rounds} rounds" if cell.unsteady else None

    return _in_cells("unsteady", "no steady part was found", results.cells, rounds)


_PARTS: tuple[Callable[[Results], list[Mark]], ...] = (
    _generator, _schedule, _noisy, _control, _rounds, _clock, _durability, _versions, _unsteady,
)  # fmt: skip


def _in_cells(kind: str, text: str, cells: Sequence[Cell], told: Callable[[Cell], str | None]) -> list[Mark]:
    """One mark over all cells of which ``told`` has something to say."""
    found = [(cell, words) for cell in cells if (words := told(cell)) is not None]
    if not found:
        return []
    cell, words = found[0]
    first = "" if len(cells) == 1 else "first "
    where = f"in {_of(len(found), cells)}, {first}{_spot(cell)}: {words}"
    return [Mark.model_validate({"kind": kind, "text": f"{text}, {where}"})]


def _of(count: int, cells: Sequence[Cell]) -> str:
    return f"{count} of {len(cells)} {'cell' if len(cells) == 1 else 'cells'}"


def _gating(results: Results) -> list[Criterion]:
    """Criteria of cells without a fault that decide; the reference is shown, but never decides, unless it ran alone."""
    alone = all(one.reference for one in results.criteria)
    return [one for one in results.criteria if one.gating and not one.fault and (alone or not one.reference)]


def _gating_cells(results: Results) -> list[Cell]:
    wanted = _spots(_gating(results))
    return [cell for cell in results.cells if _spot(cell) in wanted]


def _spots(criteria: Iterable[Criterion]) -> set[str]:
    return {_spot(one) for one in criteria}


class _Placed(Protocol):
    """What has a place among the cells: a cell, a criterion, the control."""

    @property
    def candidate(self) -> str: ...
    @property
    def driver(self) -> str: ...
    @property
    def workload(self) -> str: ...
    @property
    def concurrency(self) -> int: ...
    @property
    def load(self) -> str: ...


def _spot(one: _Placed) -> str:
    load = "" if one.load == CLOSED else f", {one.load}"
    return f"{one.candidate} {one.workload} at {one.concurrency}, {one.driver}{load}"
