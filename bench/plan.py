"""The plan: an ordered list of trials, interleaved so that a linear drift of the machine cancels out."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from bench.arrivals import Kind
from bench.cell import CLOSED
from bench.scenario import CellSpec, Driver, Scenario, rate_label, share_label


@dataclass(frozen=True)
class Pace:
    """How an open loop is paced: at ``rate`` operations a second, or at ``share`` of a maximum, of which it follows.

    ``of`` says whose maximum that is: the candidate's own, or the lowest of all candidates.
    """

    rate: float | None
    share: float | None = None
    of: Literal["own", "lowest"] = "own"
    arrivals: Kind = "poisson"
    limit_ms: float | None = None

    @property
    def label(self) -> str:
        """The name of this load."""
        if self.share is not None:
            return share_label(self.share)
        assert self.rate is not None
        return rate_label(self.rate)


class Group(NamedTuple):
    """The cells that are compared with one another: they differ in nothing but the candidate."""

    driver: Driver
    workload: str
    concurrency: int
    load: str


@dataclass(frozen=True)
class Trial:
    """One cell in one round. Times in seconds; see `bench.job.Job` for ``count`` and ``min_writes``.

    ``identities`` are the writers that may be, over all load processes; ``concurrency`` those at work at once. ``pace``
    is None in a closed loop. A ``control`` repeats the trial of its cell in the same round, for the A/A comparison.
    """

    number: int
    round: int
    candidate: str
    driver: Driver
    workload: str
    concurrency: int
    warmup_s: float
    duration_s: float
    count: int | None
    min_writes: int
    identities: int
    pace: Pace | None = None
    control: bool = False
    fault: str = ""  # its name in the scenario

    @property
    def load(self) -> str:
        """The name of its load, as cells have it."""
        return CLOSED if self.pace is None else self.pace.label

    @property
    def group(self) -> Group:
        """The cells that it is compared with."""
        return Group(self.driver, self.workload, self.concurrency, self.load)


@dataclass(frozen=True)
class Overrides:
    """What the command line may change in a scenario."""

    concurrency: tuple[int, ...] = ()
    rounds: int | None = None
    duration_s: float | None = None
    identities: int | None = None  # room for writers that come and go, where Locust makes the load


def plan(scenario: Scenario, overrides: Overrides) -> list[Trial]:
    """All trials in the order in which they run; trial numbers start at 1 (0 is the prefill).

    Closed loops whose maximum throughput others hold a share of come first, in a pass of their own. Within a pass each
    round takes every cell once, odd rounds in the reverse order (ABBA), so that over an even number of rounds each
    cell's mean place in time is the same. A cell with fewer rounds takes the outermost ones, half at either end.
    """
    every = _cells(scenario, overrides)
    sought = {_place(one) for one in every if one.pace is not None and one.pace.share is not None}
    first = [one for one in every if one.pace is None and _place(one) in sought]
    found: list[Trial] = []
    pass_one = max((_rounds(one.spec, scenario, overrides) for one in first), default=0)
    pass_two = overrides.rounds or scenario.rounds
    for cells, rounds in ((first, pass_one), ([one for one in every if one not in first], pass_two)):
        taken = [_outermost(_rounds(one.spec, scenario, overrides), rounds) for one in cells]
        for number in range(rounds):
            present = [one for one, own in zip(cells, taken, strict=True) if number in own]
            found += _one_round(present, number, scenario, overrides, len(found))
    return found + _faulted(scenario, overrides, len(found))


def _faulted(scenario: Scenario, overrides: Overrides, done: int) -> list[Trial]:
    """Trials in which something is broken: in a pass of their own, after all others; fault by fault, all candidates."""
    found: list[Trial] = []
    specs = [one for one in scenario.cells if one.faults]
    for number in range(max((_rounds(one, scenario, overrides) for one in specs), default=0)):
        for spec in (one for one in specs if number < _rounds(one, scenario, overrides)):
            cells = [
                (name, _Cell(spec, candidate, level, pace, control=False))
                for level in overrides.concurrency or spec.concurrency
                for name in spec.faults
                for pace in _paces(spec)
                for candidate in scenario.candidates
            ]
            found += [
                replace(
                    _trial(cell, scenario, overrides),
                    number=done + len(found) + n,
                    round=number,
                    fault=name,
                    identities=2 * cell.concurrency,  # a load that was killed is followed by another
                )
                for n, (name, cell) in enumerate(cells, start=1)
            ]
    return found


def planned_rounds(scenario: Scenario, overrides: Overrides) -> dict[Group, int]:
    """How many rounds the plan has for each group of cells."""
    return {one.group: _rounds(one.spec, scenario, overrides) for one in _cells(scenario, overrides)}


def more(
    scenario: Scenario, overrides: Overrides, wanted: Collection[Group], rounds: Sequence[int], done: int
) -> list[Trial]:
    """Trials of further ``rounds`` (their numbers) for some groups of cells; ``done``: trials that came before."""
    cells = [one for one in _cells(scenario, overrides) if one.group in wanted]
    found: list[Trial] = []
    for number in rounds:
        found += _one_round(cells, number, scenario, overrides, done + len(found))
    return found


class _Cell(NamedTuple):
    """One candidate's part of a group, before it is laid out in rounds."""

    spec: CellSpec
    candidate: str
    concurrency: int
    pace: Pace | None
    control: bool

    @property
    def group(self) -> Group:
        load = CLOSED if self.pace is None else self.pace.label
        return Group(self.spec.driver, self.spec.workload, self.concurrency, load)


def _place(cell: _Cell) -> tuple[str, str, int]:
    return cell.spec.driver, cell.spec.workload, cell.concurrency


def _cells(scenario: Scenario, overrides: Overrides) -> list[_Cell]:
    """Every cell; the first spec to name one says how it is measured. The control repeats one that has most rounds."""
    specs: dict[Group, tuple[CellSpec, Pace | None]] = {}
    for spec in (one for one in scenario.cells if not one.faults):
        for level in overrides.concurrency or tuple(spec.concurrency):
            for pace in _paces(spec):
                load = CLOSED if pace is None else pace.label
                specs.setdefault(Group(spec.driver, spec.workload, level, load), (spec, pace))
    repeated = control_of(scenario)
    rounds = {group: _rounds(spec, scenario, overrides) for group, (spec, _) in specs.items()}
    longest = max(rounds, key=rounds.__getitem__, default=None)
    if longest is None or rounds[longest] < 2:
        repeated = None  # one pair tells nothing
    found = []
    for group, (spec, pace) in specs.items():
        for candidate in scenario.candidates:
            cell = _Cell(spec, candidate, group.concurrency, pace, control=False)
            found += [cell, cell._replace(control=True)] if (group, candidate) == (longest, repeated) else [cell]
    return found


def control_of(scenario: Scenario) -> str | None:
    """The candidate that is measured twice, if several are compared: the one that is named, else the first judged."""
    if scenario.control is not None or len(scenario.candidates) < 2:
        return scenario.control or None
    return next((name for name in scenario.candidates if name != scenario.reference), None)


def _paces(spec: CellSpec) -> list[Pace | None]:
    shares = [Pace(None, share, spec.of, spec.arrivals, spec.limit_ms) for share in spec.load]
    rates = [Pace(rate, None, spec.of, spec.arrivals, spec.limit_ms) for rate in spec.rate]
    return [*shares, *rates] or [None]


def _rounds(spec: CellSpec, scenario: Scenario, overrides: Overrides) -> int:
    return overrides.rounds or min(spec.rounds or scenario.rounds, scenario.rounds)


def _outermost(wanted: int, rounds: int) -> set[int]:
    head = -(-wanted // 2)
    return set(range(head)) | set(range(rounds - (wanted - head), rounds))


def _one_round(cells: Sequence[_Cell], number: int, scenario: Scenario, overrides: Overrides, done: int) -> list[Trial]:
    ordered = cells if number % 2 == 0 else list(reversed(cells))
    return [
        replace(_trial(cell, scenario, overrides), number=done + n, round=number)
        for n, cell in enumerate(ordered, start=1)
    ]


def _warmup(cell: CellSpec, scenario: Scenario) -> float:
    if cell.count is not None or cell.runs is not None:
        return 0.0  # counted operations are all measured, or a small count would be over before it is
    return scenario.warmup_s if cell.warmup_s is None else cell.warmup_s


def _trial(cell: _Cell, scenario: Scenario, overrides: Overrides) -> Trial:
    spec = cell.spec
    work = scenario.workloads[spec.workload].workload(spec.workload)
    return Trial(
        number=0,
        round=0,
        candidate=cell.candidate,
        driver=spec.driver,
        workload=spec.workload,
        concurrency=cell.concurrency,
        warmup_s=_warmup(spec, scenario),
        duration_s=overrides.duration_s or spec.duration_s or scenario.duration_s,
        count=spec.count if spec.runs is None else spec.runs * work.operations_per_run,
        min_writes=spec.min_writes,
        identities=overrides.identities or cell.concurrency,
        pace=cell.pace,
        control=cell.control,
    )
