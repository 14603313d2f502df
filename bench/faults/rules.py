"""Which faults a cell of a scenario may have: what its types can't say, in words."""

from collections.abc import Iterator, Mapping
from typing import Literal, Protocol

from bench.faults.spec import NETWORK, TARGETS, FaultSpec

_WITH_ROWS = ("log_metric", "log_batch", "mixed", "bulk")
_ON_ROWS = ("lock", "deadlocks")


class Faulted(Protocol):
    """What a cell of a scenario says of its faults."""

    @property
    def faults(self) -> list[str]:
        """Their names."""

    @property
    def driver(self) -> Literal["direct", "http"]:
        """How the load reaches the store."""


def wrong_target(spec: FaultSpec) -> str | None:
    """Why a fault can't be done to its target; None if it can."""
    allowed = TARGETS[spec.kind]
    if spec.target in allowed:
        return None
    return f"kind {spec.kind} can't be done to {spec.target!r}; set target = {' or '.join(map(repr, allowed))}"


def misfits(cell: Faulted, faults: Mapping[str, FaultSpec], kind: str, ends: bool) -> Iterator[str]:
    """Why a cell can't have its faults. ``kind`` is its workload's; ``ends``: it has what only others have."""
    if ends:
        yield "count, runs, load, objective and a second rate belong to cells without faults"
    if len(set(cell.faults)) < len(cell.faults):
        yield "it names a fault twice"
    for name in cell.faults:
        spec = faults.get(name)
        if spec is None:
            yield f"unknown fault {name!r}; use one of {', '.join(sorted(faults)) or 'those under [faults]: none yet'}"
        elif problem := _misfit(spec, cell.driver, kind):
            yield f"fault {name!r}: {problem}"


def _misfit(spec: FaultSpec, driver: Literal["direct", "http"], kind: str) -> str | None:
    door = "tracking" if driver == "http" else "database"
    rules = {
        f"this load talks to the {door} server; set target = {door!r}": spec.kind in NETWORK and spec.target != door,
        'direct writers have no tracking server; set driver = "http"': spec.target == "tracking" and driver == "direct",
        'it is done under the store itself; set driver = "direct"': spec.kind in ("power", "disk_full")
        and driver == "http",
        f"it takes rows of runs that are there beforehand; use a workload of kind {', '.join(_WITH_ROWS)}": (
            spec.kind in _ON_ROWS and kind not in _WITH_ROWS
        ),
    }
    return next((problem for problem, broken in rules.items() if broken), None)
