"""The plan: an ordered list of trials, interleaved so that a linear drift of the machine cancels out."""

from dataclasses import dataclass

from bench.scenario import CellSpec, Driver, Scenario


@dataclass(frozen=True)
class Trial:
    """One cell in one round. Times in seconds; see `bench.job.Job` for ``count`` and ``min_writes``.

    ``identities`` are the writers that may be, over all load processes; ``concurrency`` those at work at once.
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


@dataclass(frozen=True)
class Overrides:
    """What the command line may change in a scenario."""

    concurrency: tuple[int, ...] = ()
    rounds: int | None = None
    duration_s: float | None = None
    identities: int | None = None  # room for writers that come and go, where Locust makes the load


def plan(scenario: Scenario, overrides: Overrides) -> list[Trial]:
    """All trials in the order in which they run; trial numbers start at 1 (0 is the prefill).

    Each round takes every cell once, odd rounds in the reverse order (ABBA), so that over an even number of
    rounds each cell's mean place in time is the same. A cell with fewer rounds takes the outermost ones, half at
    either end.
    """
    rounds = overrides.rounds or scenario.rounds
    specs: dict[tuple[Driver, str, int], CellSpec] = {}
    for cell in scenario.cells:
        for level in overrides.concurrency or tuple(cell.concurrency):
            specs.setdefault(
                (cell.driver, cell.workload, level), cell
            )  # the first to name a cell says how it is measured
    cells = [(cell, candidate, level) for (_, _, level), cell in specs.items() for candidate in scenario.candidates]
    trials: list[Trial] = []
    for number in range(rounds):
        present = [item for item in cells if number in _rounds_of(item[0], rounds, overrides)]
        for cell, candidate, level in present if number % 2 == 0 else reversed(present):
            trials.append(_trial(len(trials) + 1, number, candidate, level, (cell, scenario, overrides)))
    return trials


def _rounds_of(cell: CellSpec, rounds: int, overrides: Overrides) -> set[int]:
    wanted = min(cell.rounds or rounds, rounds) if overrides.rounds is None else rounds
    head = -(-wanted // 2)
    return set(range(head)) | set(range(rounds - (wanted - head), rounds))


def _warmup(cell: CellSpec, scenario: Scenario) -> float:
    if cell.count is not None or cell.runs is not None:
        return 0.0  # counted operations are all measured, or a small count would be over before it is
    return scenario.warmup_s if cell.warmup_s is None else cell.warmup_s


def _trial(
    number: int, round_number: int, candidate: str, level: int, given: tuple[CellSpec, Scenario, Overrides]
) -> Trial:
    cell, scenario, overrides = given
    work = scenario.workloads[cell.workload].workload(cell.workload)
    return Trial(
        number=number,
        round=round_number,
        candidate=candidate,
        driver=cell.driver,
        workload=cell.workload,
        concurrency=level,
        warmup_s=_warmup(cell, scenario),
        duration_s=overrides.duration_s or cell.duration_s or scenario.duration_s,
        count=cell.count if cell.runs is None else cell.runs * work.operations_per_run,
        min_writes=cell.min_writes,
        identities=overrides.identities or level,
    )
