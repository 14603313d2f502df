"""The verdict: the worst gating criterion wins; data lost, changed or duplicated is always exit code 4."""

from collections.abc import Sequence

from bench.cell import Cell, Criterion, Verdict
from bench.errors import ExitCode

_RANK: dict[Verdict, int] = {"pass": 0, "inconclusive": 1, "fail": 2}


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """The worst of some verdicts; nothing judged is inconclusive."""
    return max(verdicts, key=lambda verdict: _RANK[verdict], default="inconclusive")


def of_candidate(candidate: str, criteria: Sequence[Criterion], cells: Sequence[Cell]) -> tuple[Verdict, str]:
    """(verdict, the one reason for it) of a candidate."""
    doors = [(cell, door) for cell in cells if cell.candidate == candidate for door in cell.doors]
    broken = [(cell, door) for cell, door in doors if door.broken]
    if broken:
        cell, integrity = broken[0]
        return "fail", (
            f"integrity: {integrity.lost} lost, {integrity.duplicated} duplicated, {integrity.corrupted} corrupted, "
            f"{integrity.unexpected} unexpected rows, {sum(integrity.invariants.values())} invariants broken "
            f"({cell.workload} at {cell.concurrency})"
        )
    gating = [item for item in criteria if item.candidate == candidate and item.gating]
    verdict = worst([item.outcome for item in gating])
    if not gating:
        return verdict, "no gating criterion applies to it"
    if verdict == "pass":
        unchecked = [door for _, door in doors if not door.checked]
        if unchecked:
            return "inconclusive", f"integrity is unknown: {unchecked[0].reason or 'it was not checked'}"
        return verdict, f"all {len(gating)} gating criteria hold"
    first = next(item for item in gating if item.outcome == verdict)
    return verdict, f"{first.name} ({first.expression}, {first.workload} at {first.concurrency}): {first.reason}"


def of_run(verdicts: dict[str, Verdict], reference: str | None) -> Verdict:
    """The run's verdict: the worst of its candidates, the reference aside (unless it ran alone)."""
    others = [verdict for candidate, verdict in verdicts.items() if candidate != reference]
    return worst(others or list(verdicts.values()))


def exit_code(verdict: Verdict, cells: Sequence[Cell]) -> ExitCode:
    """The exit code that goes with a run's verdict."""
    if any(door.broken for cell in cells for door in cell.doors):
        return ExitCode.INTEGRITY
    return {"pass": ExitCode.PASS, "inconclusive": ExitCode.INCONCLUSIVE, "fail": ExitCode.FAIL}[verdict]
