"""Capacity: the highest offered rate at which each candidate met an objective."""

from dataclasses import dataclass
from typing import Final

from bench.results import Capacity, Results
from reports.figures import duration, mathematical, one_line, rate
from reports.judged import crowd, load_words


def objective_of(capacity: Capacity) -> str:
    """The objective as people read it: ``p99 ≤ 250 ms``."""
    field, sign, limit = _parts(capacity.objective)
    if sign and field.endswith("_ms"):
        return f"{field.removesuffix('_ms').replace('.', ' ')} {mathematical(sign)} {duration(float(limit))}"
    return mathematical(one_line(capacity.objective))


def sign_of(capacity: Capacity) -> str:
    """The limit alone: ``≤ 250 ms``."""
    return objective_of(capacity).partition(" ")[2]


def limit_of(capacity: Capacity) -> tuple[str, float] | None:
    """The latency that the objective limits and the limit in ms; None where it is about something else."""
    field, sign, limit = _parts(capacity.objective)
    return (field, float(limit)) if sign and field.endswith("_ms") else None


def _parts(objective: str) -> tuple[str, str, str]:
    """Field, sign and number of a plain objective; empty texts of any other."""
    found = objective.split()
    try:
        field, sign, limit = found
        float(limit)
    except ValueError:
        return "", "", ""
    return (field, sign, limit) if sign in ("<", "<=") else ("", "", "")


def held(capacity: Capacity) -> str:
    """Up to which rate the objective held, in short."""
    if capacity.holds is not None:
        return f"up to {rate(capacity.holds)}" + ("" if capacity.breaks is not None else ", the highest tried")
    return "at no rate that was tried" if capacity.breaks is not None else "not known"


def beyond(capacity: Capacity) -> str:
    """Which rate broke the objective, and the maximum."""
    more = [
        *([f"not at {rate(capacity.breaks)}"] if capacity.breaks is not None else []),
        *([f"maximum {rate(capacity.maximum)}"] if capacity.maximum is not None else []),
    ]
    return ", ".join(more)


def title(capacity: Capacity) -> str:
    """Where and for what an objective was sought, in one line."""
    return f"{where(capacity)}: {objective_of(capacity)}"


def where(capacity: Capacity) -> str:
    """Where an objective was sought."""
    return f"{one_line(capacity.workload)}, {crowd(capacity.driver, capacity.concurrency)}, {capacity.driver}"


def together(results: Results) -> list[list[Capacity]]:
    """The capacities in groups that can be compared: of one place and one objective."""
    groups: dict[tuple[object, ...], list[Capacity]] = {}
    for each in results.capacities:
        key = (each.driver, each.workload, each.concurrency, each.objective)
        groups.setdefault(key, []).append(each)
    return list(groups.values())


@dataclass(frozen=True)
class CapacityLine:
    """What one candidate held, what broke it, and its maximum; a remark beside each of the first two."""

    candidate: str
    holds: str
    holds_note: str
    breaks: str
    breaks_note: str
    maximum: str
    reason: str


def line(each: Capacity) -> CapacityLine:
    """One capacity, ready to print."""
    return CapacityLine(
        candidate=one_line(each.candidate),
        holds=rate(each.holds) if each.holds is not None else "none",
        holds_note=_share(each.holds_load),
        breaks=rate(each.breaks) if each.breaks is not None else "none was tried",
        breaks_note=_share(each.breaks_load),
        maximum=rate(each.maximum),
        reason=one_line(each.reason),
    )


def _share(load: str | None) -> str:
    """The load's name where that is not the rate itself."""
    return load_words(load) if load and load.endswith("%") else ""


HEADS: Final = ("candidate", "highest rate that holds", "next, which does not", "maximum, closed loop", "why")
"""The columns of a table of capacities."""
