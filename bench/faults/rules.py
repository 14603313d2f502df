"""Which faults a cell of a scenario may have: what its types can't say, in words."""

from collections.abc import Collection, Iterator, Mapping
from typing import Final, Literal, Protocol

from bench.faults.spec import NETWORK, TARGETS, FaultSpec, Kind

_WITH_ROWS = ("log_metric", "log_batch", "mixed", "bulk")
_ON_ROWS = ("lock", "deadlocks")
_OTHERS = ("count", "runs", "load", "objective", "duration_s", "warmup_s", "min_writes")
_KEYS: Final[dict[str, tuple[Kind, ...]]] = {
    "delay_ms": ("latency",),
    "bytes_per_s": ("throttle",),
    "step_s": ("clock",),
    "lose": ("power",),
}


class Faulted(Protocol):
    """What a cell of a scenario says of its faults."""

    @property
    def faults(self) -> list[str]:
        """Their names."""

    @property
    def rate(self) -> list[float]:
        """Of open loops, in operations a second."""

    @property
    def driver(self) -> Literal["direct", "http"]:
        """How the load reaches the store."""


def wrong(spec: FaultSpec) -> Iterator[tuple[str, str]]:
    """(key, problem) of what a fault can't be."""
    allowed = TARGETS[spec.kind]
    if spec.target not in allowed:
        asked = " or ".join(map(repr, allowed))
        yield "target", f"kind {spec.kind} can't be done to {spec.target!r}; set target = {asked}"
    if spec.for_s >= spec.limit_s:
        yield "for_s", f"it would last for {spec.for_s:g} s and be given up after {spec.limit_s:g} s; raise limit_s"
    for key, kinds in _KEYS.items():
        if key in spec.model_fields_set and spec.kind not in kinds:
            yield key, f"{key} belongs to kind {', '.join(kinds)}, not to {spec.kind}"


def misfits(cell: Faulted, faults: Mapping[str, FaultSpec], kind: str, keys: Collection[str]) -> Iterator[str]:
    """Why a cell can't have its faults. ``kind`` is its workload's; ``keys`` are those that the cell sets."""
    if not cell.faults:
        yield "faults is empty; name some, or leave it out"
    for key in _OTHERS:
        if key in keys:
            yield f"{key} belongs to cells without faults: a fault says itself how long its load lasts"
    if len(cell.rate) > 1:
        yield "one rate at a time, where something is broken"
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
        "a small disk has no prefill to read; use a workload that only writes": spec.kind == "disk_full"
        and kind in ("read", "mixed"),
        f"it takes rows of runs that are there beforehand; use a workload of kind {', '.join(_WITH_ROWS)}": (
            spec.kind in _ON_ROWS and kind not in _WITH_ROWS
        ),
    }
    return next((problem for problem, broken in rules.items() if broken), None)
