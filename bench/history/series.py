"""Past runs as series: each figure of each cell over time, one series a machine, with its changes of level."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench.history.names import RUN, Place, read_metric
from bench.history.past import PastRun
from bench.judge.changes import Change, changes, testable

SHOWN: Final = ("metrics_per_s", "p99_ms", "read_p95_ms", "capacity_per_s")
"""The figures shown where nobody asks for others."""
_MACHINE: Final = ("machine_spin_ms", "machine_sync_ms")
_CONDITION: Final = "condition/"


@dataclass(frozen=True)
class Shift:
    """A change of level and the run it began with. ``differs``: what else was new in that run, and how it was before.

    ``better`` is None where the figure has no better direction.
    """

    change: Change
    run: PastRun
    better: bool | None
    differs: Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class Series:
    """One figure of one cell on one machine, the oldest value first; ``place`` is None for the machine itself.

    ``tested`` says whether changes were looked for.
    """

    place: Place | None
    figure: str
    runs: tuple[PastRun, ...]
    values: tuple[float, ...]
    tested: bool
    shifts: tuple[Shift, ...]

    @property
    def name(self) -> str:
        """As the terminal names it: ``p99_ms postgresql http log_metric 20``."""
        return f"{self.figure} {self.place}" if self.place else f"{self.figure} of the machine"


@dataclass(frozen=True)
class Machine:
    """The runs of one machine, the oldest first, and their series."""

    name: str
    runs: tuple[PastRun, ...]
    series: tuple[Series, ...]

    @property
    def shifts(self) -> list[tuple[Series, Shift]]:
        """All changes found on it, the latest first."""
        found = [(one, shift) for one in self.series for shift in one.shifts]
        return sorted(found, key=lambda each: each[1].run.started, reverse=True)


@dataclass(frozen=True)
class History:
    """The past of a scenario. Runs of unlike machines are never in one series."""

    scenario: str
    source: str
    machines: tuple[Machine, ...]

    @property
    def runs(self) -> list[PastRun]:
        """All runs, the oldest first."""
        found = [run for machine in self.machines for run in machine.runs]
        return sorted(found, key=lambda each: (each.started, each.id))

    @property
    def tested(self) -> int:
        """How many series changes were looked for in."""
        return sum(one.tested for machine in self.machines for one in machine.series)


def history(scenario: str, source: str, runs: Sequence[PastRun], figures: Sequence[str] = SHOWN) -> History:
    """The history of these runs (the oldest first), with the machine that ran last first."""
    by_machine: dict[str, list[PastRun]] = {}
    for run in runs:
        by_machine.setdefault(run.machine, []).append(run)
    found = [Machine(name, tuple(own), tuple(_series(own, figures))) for name, own in by_machine.items()]
    return History(scenario, source, tuple(sorted(found, key=lambda each: each.runs[-1].started, reverse=True)))


def is_better(figure: str, ratio: float) -> bool | None:
    """Whether a figure that became ``ratio`` times what it was is better; None where neither way is."""
    if figure.startswith("control_"):
        return None
    if figure.endswith("_per_s") or figure in ("success_rate", "integrity"):
        return ratio > 1
    return ratio < 1


def known_figures(runs: Sequence[PastRun]) -> list[str]:
    """The figures that these runs have, of any cell."""
    return sorted({read[1] for run in runs for key in run.metrics if (read := read_metric(key))})


def _series(runs: Sequence[PastRun], figures: Sequence[str]) -> list[Series]:
    wanted: dict[tuple[Place | None, str], str] = {}
    for run in reversed(runs):  # in the order of the latest run that has them
        for key in run.metrics:
            read = read_metric(key)
            if read and read[1] in figures:
                wanted.setdefault(read, key)
    ordered = sorted(wanted.items(), key=lambda each: _order(each[0][0], each[0][1], figures))
    machine = [((None, name), f"{RUN}/{name}") for name in _MACHINE]
    found = [_one(runs, place, figure, key) for (place, figure), key in [*ordered, *machine]]
    return [one for one in found if one.values]


def _order(place: Place | None, figure: str, figures: Sequence[str]) -> tuple[object, ...]:
    """Cells that are compared with one another stand together, figure by figure."""
    assert place is not None
    return place.driver, place.workload, place.concurrency, place.load, figures.index(figure), place.candidate


def _one(runs: Sequence[PastRun], place: Place | None, figure: str, key: str) -> Series:
    own = tuple(run for run in runs if key in run.metrics and not run.interrupted)  # of fewer rounds than the others
    values = tuple(run.metrics[key] for run in own)
    found = [
        Shift(
            change,
            own[change.index],
            is_better(figure, change.ratio),
            _differs(own[change.index - 1], own[change.index], place),
        )
        for change in changes(values)
    ]
    return Series(place, figure, own, values, testable(values), tuple(found))


def _differs(before: PastRun, after: PastRun, place: Place | None) -> dict[str, tuple[str, str]]:
    """The revisions and conditions that two runs do not share, without those of other candidates."""
    others = (_candidates(before) | _candidates(after)) - {place.candidate if place else ""}
    found = {"revision": (before.revision, after.revision)} if before.revision != after.revision else {}
    for key in dict.fromkeys([*before.params, *after.params]):
        pair = before.params.get(key, "not set"), after.params.get(key, "not set")
        names = key.removeprefix(_CONDITION).split("/")
        if key.startswith(_CONDITION) and pair[0] != pair[1] and names[0] not in others:
            found[" ".join(names).replace("_", " ")] = pair
    return found


def _candidates(run: PastRun) -> set[str]:
    return {read[0].candidate for key in run.metrics if (read := read_metric(key))}
