"""The verdict: the worst gating criterion wins; data lost, changed or duplicated is always exit code 4.

So is a move whose stores are not equal.

Also what a fault took from a store, whether or not its settings allow that. The one exception is a power cut in a model
of the reference's disk: nobody is about to move to the reference.
"""

from collections.abc import Sequence

from bench.cell import Cell, Criterion, Integrity, Verdict
from bench.decision_record import Move
from bench.errors import ExitCode
from bench.fault_cell import FaultCell

_RANK: dict[Verdict, int] = {"pass": 0, "inconclusive": 1, "fail": 2}


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """The worst of some verdicts; nothing judged is inconclusive."""
    return max(verdicts, key=lambda verdict: _RANK[verdict], default="inconclusive")


def of_candidate(
    candidate: str,
    criteria: Sequence[Criterion],
    cells: Sequence[Cell],
    faults: Sequence[FaultCell] = (),
    move: Move | None = None,
) -> tuple[Verdict, str]:
    """(verdict, the one reason for it) of a candidate; ``faults`` are its cells with a fault, and those of others.

    ``move`` is the move of a store, if there was one: to this candidate or to another.
    """
    if move is not None and move.candidate == candidate and move.differs is not None:
        return "fail", move.differs
    own = [cell for cell in cells if cell.candidate == candidate]
    faulted = [cell for cell in faults if cell.candidate == candidate]
    if broken := _broken(own, faulted):
        return "fail", broken
    gating = [item for item in criteria if item.candidate == candidate and item.gating]
    verdict = worst([item.outcome for item in gating])
    if not gating:
        return verdict, "no gating criterion applies to it"
    if verdict == "pass":
        doubt = _doubt(own, faulted)
        return ("pass", f"all {len(gating)} gating criteria hold") if doubt is None else ("inconclusive", doubt)
    first = next(item for item in gating if item.outcome == verdict)
    fault = f", {first.fault}" if first.fault else ""
    where = f"{first.workload} at {first.concurrency}{fault}" if first.concurrency else first.workload
    return verdict, f"{first.name} ({first.expression}, {where}): {first.reason}"


def _broken(cells: Sequence[Cell], faults: Sequence[FaultCell]) -> str | None:
    """What was lost, changed, duplicated or added, if anything was: first without anybody's doing."""
    for cell in cells:
        for door in cell.doors:
            if door.broken:
                return (
                    f"integrity: {door.lost} lost, {door.duplicated} duplicated, {door.corrupted} corrupted, "
                    f"{door.unexpected} unexpected rows, {sum(door.invariants.values())} invariants broken "
                    f"({cell.workload} at {cell.concurrency})"
                )
    for fault in faults:
        if any(door.broken for door in deciding(fault)):
            return f"fault {fault.fault}: {fault.reason} ({fault.workload} at {fault.concurrency})"
    return None


def _doubt(cells: Sequence[Cell], faults: Sequence[FaultCell]) -> str | None:
    """Why criteria that hold are no pass: what was not found out, whether or not a criterion asks for it."""
    doors = [*(door for cell in cells for door in cell.doors), *(door for cell in faults for door in deciding(cell))]
    for door in doors:
        if not door.checked:
            return f"integrity is unknown: {door.reason or 'it was not checked'}"
    for fault in faults:
        if fault.outcome == "unknown" and not _shown_only(fault):
            return f"fault {fault.fault}: {fault.reason} ({fault.workload} at {fault.concurrency})"
    return None


def deciding(cell: FaultCell) -> list[Integrity]:
    """The integrity checks of a cell with a fault that decide."""
    if not _shown_only(cell):
        return cell.doors
    return [] if cell.integrity_prefill is None else [cell.integrity_prefill]  # of the store's own file


def _shown_only(cell: FaultCell) -> bool:
    """Whether it happened to a model of the reference's disk: that is shown, and decides nothing."""
    return cell.reference and cell.modelled


def of_run(verdicts: dict[str, Verdict], reference: str | None) -> Verdict:
    """The run's verdict: the worst of its candidates, the reference aside (unless it ran alone)."""
    others = [verdict for candidate, verdict in verdicts.items() if candidate != reference]
    return worst(others or list(verdicts.values()))


def exit_code(
    verdict: Verdict, cells: Sequence[Cell], faults: Sequence[FaultCell] = (), move: Move | None = None
) -> ExitCode:
    """The exit code that goes with a run's verdict."""
    if move is not None and move.differs is not None:
        return ExitCode.INTEGRITY
    doors = [*(door for cell in cells for door in cell.doors), *(door for cell in faults for door in deciding(cell))]
    if any(door.broken for door in doors):
        return ExitCode.INTEGRITY
    return {"pass": ExitCode.PASS, "inconclusive": ExitCode.INCONCLUSIVE, "fail": ExitCode.FAIL}[verdict]
