"""Which cells of a scenario a criterion is judged on, and why it can't be judged on those that it names.

Fields that begin with ``fault.`` are of cells with a fault; those of integrity are of all cells, faulted or not; any
other is of cells without a fault. A power cut is made in a model, with no load beside it: there only what was left
can be judged. Fields of a move (``migration.``, ``readiness.``) are of no cell: they are judged once a run.
"""

from typing import TYPE_CHECKING, NamedTuple

from bench.cell import CLOSED
from bench.judge.criteria import parse
from bench.judge.fields import BESIDE_A_FAULT, of_cells, of_faults, of_moves

if TYPE_CHECKING:  # scenarios ask this module about themselves
    from bench.scenario import CriterionSpec, Driver, Scenario


class Place(NamedTuple):
    """Cells that differ in nothing but the candidate; ``fault`` is empty where nothing is broken on purpose."""

    driver: "Driver"
    workload: str
    concurrency: int
    load: str
    fault: str = ""


def cells_of(criterion: "CriterionSpec", scenario: "Scenario") -> list[Place]:
    """The cells that a criterion is judged on.

    Raises:
        BadInput: its expression is none.
    """
    field = parse(criterion.expression).field
    return [one for one in places(scenario) if _has(field, one, scenario) and _names(criterion, one)]


def places(scenario: "Scenario") -> list[Place]:
    """All cells of a scenario; those with faults have one for each, and none without."""
    return [
        Place(cell.driver, cell.workload, level, load, fault)
        for cell in scenario.cells
        for level in cell.concurrency
        for load in cell.loads
        for fault in cell.faults or [""]
    ]


def misnamed(criterion: "CriterionSpec", scenario: "Scenario") -> str | None:
    """What is wrong with the faults that a criterion of a valid expression names; None if nothing is."""
    if criterion.faults is None:
        return None
    field = parse(criterion.expression).field
    if not of_faults(field):
        return f"faults belongs to criteria of fault.* and of integrity; {field} is of cells without a fault"
    for name in criterion.faults:
        if name not in scenario.faults:
            return (
                f"unknown fault {name!r}; use one of {', '.join(scenario.faults) or 'those under [faults]: none yet'}"
            )
    return None


def why_nowhere(criterion: "CriterionSpec", scenario: "Scenario") -> str | None:
    """Why a criterion of a valid expression fits no cell; None if it fits one."""
    if cells_of(criterion, scenario):
        return None
    field = parse(criterion.expression).field
    if of_moves(field):
        named = ("driver", "workload", "concurrency", "loop", "stores")
        narrowed = next((name for name in named if getattr(criterion, name) is not None), None)
        return f"sets {narrowed}, but {field} is of the whole move: leave it out" if narrowed else None
    if not any(_has(field, one, scenario) for one in places(scenario)):
        if field in BESIDE_A_FAULT:
            return f"fits no cell of this scenario: {field} is of cells with a load and a fault beside it"
        kind = "with" if of_faults(field) else "without"
        return f"fits no cell of this scenario: {field} is of cells {kind} a fault"
    return "fits no cell of this scenario"


def _has(field: str, place: Place, scenario: "Scenario") -> bool:
    """Whether cells there have this field."""
    if not place.fault:
        return of_cells(field)
    fault = scenario.faults.get(place.fault)  # a name that is none is refused elsewhere
    return of_faults(field) and not (field in BESIDE_A_FAULT and fault is not None and fault.kind == "power")


def _names(criterion: "CriterionSpec", place: Place) -> bool:
    """Whether a criterion leaves this place in; what it does not name, it does not narrow."""
    return (
        criterion.driver in (None, place.driver)
        and criterion.workload in (None, place.workload)
        and criterion.concurrency in (None, place.concurrency)
        and criterion.loop in (None, "closed" if place.load == CLOSED else "open")
        and (criterion.faults is None or place.fault in criterion.faults)
    )
