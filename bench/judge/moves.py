"""Criteria on moving a store, and on what it was moved to: judged once a run, exact, never on a cell."""

from collections.abc import Callable
from typing import Final

from bench.cell import Criterion
from bench.decision_record import Move
from bench.judge.criteria import Rule
from bench.judge.fields import MIGRATION, READINESS, unit_of
from bench.migrate.proof import Proof
from bench.readiness.check import Check, Outcome

_MOVE, _TARGET = "the move", "the target"
_BACKUP: Final = "backup"  # the name of the check that makes and restores one
_EXCUSED: Final = frozenset({"access", "upkeep", "point_in_time"})  # checks for an administrator's eyes


def judge(rule: Rule, move: Move) -> Criterion:
    """Judge one rule on a move; what was not measured is inconclusive."""
    expression = rule.expression
    value = value_of(expression.field, move)
    outcome, reason = "inconclusive", why_missing(expression.field, move)
    if value is not None:
        outcome = "pass" if expression.holds(value, expression.factor) else "fail"
        reason = _reason(expression.field, move, value)
    return Criterion.model_validate(
        {
            "candidate": move.candidate,
            "name": rule.name,
            "expression": rule.text,
            "field": expression.field,
            "driver": "",
            "workload": _MOVE if expression.field.startswith(MIGRATION) else _TARGET,
            "concurrency": 0,
            "comparison": expression.operator,
            "limit": expression.factor,
            "target": f"{expression.operator} {expression.factor:g}",
            "measured": value,
            "unit": unit_of(expression.field),
            "interval": None,
            "outcome": outcome,
            "gating": rule.gating,
            "table": rule.table,
            "published": rule.published,
            "reference": False,
            "reason": reason,
            "rounds_needed": None,
        }
    )


def value_of(field: str, move: Move) -> float | None:
    """The value of a field; None where it was not measured."""
    return (_OF_MIGRATION | _OF_READINESS)[field](move)


def why_missing(field: str, move: Move) -> str:
    """Why a field has no value."""
    if field.startswith(READINESS):
        if not move.readiness:
            return move.why_not("readiness", "the target was not looked at").reason
        if field == f"{READINESS}failed":
            return f"not known: {'; '.join(check.title for check in _every(move) if in_doubt(check))}"
        return "no backup was tried, or it could not be"
    if move.migration is None:
        return move.why_not("copy", "the copy was not finished").reason
    if field == f"{MIGRATION}frozen_to_proof_s":
        return "the source's writers were not stopped: no pass was the last one"
    if field == f"{MIGRATION}equal_after_load":
        return move.why_not("proof_after_load", "nothing was proved after the load").reason
    return move.why_not("proof", "the copy was not proved").reason


def _reason(field: str, move: Move, value: float) -> str:
    """What was measured; where stores differ, how."""
    if field in (f"{MIGRATION}equal", f"{MIGRATION}equal_after_load") and value == 0:
        return move.differs or "the stores differ"
    if field == f"{READINESS}failed" and value:
        failing = [check.title for check in _every(move) if check.outcome == "fail"]
        return f"measured {value:g}: {'; '.join(failing)}"
    return f"measured {value:g}"


def _equal(move: Move) -> float | None:
    """Of every database that was moved: one that was not proved leaves all unknown, one that differs decides."""
    made = [one.proof for one in (move.migration, *move.also) if one is not None]
    if any(proof is not None and not proof.equal for proof in made):
        return 0.0
    return None if not made or None in made else 1.0


def _equal_after(move: Move) -> float | None:
    return None if move.proof_after_load is None else float(move.proof_after_load.equal)


def _differing(move: Move) -> float | None:
    proofs = move.proofs
    return float(sum(map(_rows, proofs))) if proofs and _equal(move) is not None else None


def _rows(proof: Proof) -> int:
    return sum(table.missing + table.extra + table.changed for table in proof.tables)


def _problems(move: Move) -> float | None:
    return None if move.migration is None else float(len(move.migration.problems))


def _frozen(move: Move) -> float | None:
    return None if move.migration is None else move.migration.frozen_to_proof_s


def _copy_rate(move: Move) -> float | None:
    """Metrics a second over the copy alone."""
    if move.migration is None or move.migration.proof is None:
        return None
    took = move.migration.seconds.get("copy")
    metrics = sum(table.source_rows for table in move.migration.proof.tables if table.table == "metrics")
    return metrics / took if took and metrics else None


def _counted(outcome: Outcome) -> Callable[[Move], float | None]:
    def value(move: Move) -> float | None:
        if not move.readiness:
            return None
        return float(sum(check.outcome == outcome for check in _every(move)))

    return value


def in_doubt(check: Check) -> bool:
    """Whether it may fail for all that is known; what an ordinary login can't see on any server is excused."""
    return check.outcome == "unknown" and check.name not in _EXCUSED


def _every(move: Move) -> list[Check]:
    return [check for one in move.readiness for check in one.checks]


def _failed(move: Move) -> float | None:
    """How many fail; unknown where none does, but one may."""
    failing = _counted("fail")(move)
    return None if failing == 0 and any(map(in_doubt, _every(move))) else failing


def _restored(move: Move) -> float | None:
    """The worst backup of all: 0 if one failed; unknown if one could not be made."""
    tried = [check.outcome for check in _every(move) if check.name == _BACKUP]
    if "fail" in tried:
        return 0.0
    return None if not tried or "unknown" in tried else 1.0


_OF_MIGRATION: Final[dict[str, Callable[[Move], float | None]]] = {
    f"{MIGRATION}equal": _equal,
    f"{MIGRATION}equal_after_load": _equal_after,
    f"{MIGRATION}problems": _problems,
    f"{MIGRATION}differing_rows": _differing,
    f"{MIGRATION}frozen_to_proof_s": _frozen,
    f"{MIGRATION}copy_metrics_per_s": _copy_rate,
}
_OF_READINESS: Final[dict[str, Callable[[Move], float | None]]] = {
    f"{READINESS}failed": _failed,
    f"{READINESS}warned": _counted("warn"),
    f"{READINESS}unknown": _counted("unknown"),
    f"{READINESS}backup_restored": _restored,
}
