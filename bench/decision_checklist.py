"""The checklist of a move: one line a step, in their order, each with its outcome and what to do about it.

Worked out of a run's results alone. It binds the verdict: what failed here is no pass, nor what could not be found out.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from bench.cell import Criterion
from bench.decision_record import BADNESS, Move, Part, Step, differences
from bench.errors import ExitCode
from bench.fault_cell import FaultCell
from bench.judge.fields import of_moves
from bench.judge.moves import in_doubt
from bench.migrate.proof import Proof
from bench.migrate.record import Migration, Pass
from bench.readiness.check import Check
from bench.results import Results

AUTH: Final = "authentication database"
_BACKUP: Final = "backup"
_NO_COPY = "there is no copy"


def added(found: Results) -> Results:
    """The results with the checklist of their move, whose verdict is no better than it; unchanged without a move."""
    move = found.move
    if move is None:
        return found
    steps = checklist(found, move)
    found = found.model_copy(update={"checklist": steps})
    own = move.candidate
    worst = max(steps, key=lambda step: BADNESS.index(step.outcome))
    if found.verdicts.get(own) != "pass" or worst.outcome not in ("fail", "unknown"):
        return found
    verdict = "fail" if worst.outcome == "fail" else "inconclusive"
    changes: dict[str, object] = {
        "verdicts": {**found.verdicts, own: verdict},
        "reasons": {**found.reasons, own: f"{worst.step}: {worst.said}"},
    }
    if found.verdict == "pass" or (found.verdict, verdict) == ("inconclusive", "fail"):
        changes |= {"verdict": verdict}
    if found.exit_code != ExitCode.INTEGRITY and "verdict" in changes:
        changes |= {"exit_code": int(ExitCode.FAIL if verdict == "fail" else ExitCode.INCONCLUSIVE)}
    return found.model_copy(update=changes)


def checklist(found: Results, move: Move) -> list[Step]:
    """All steps in their order."""
    return [
        _source(move),
        _preflight(move),
        _copy(move),
        *_proofs(move),
        _load(found, move),
        _faults(found, move),
        _after_load(move),
        *_readiness(move),
        _backup(move),
        *_others(move),
    ]


def _source(move: Move) -> Step:
    title = "source readable and consistent"
    migration = move.migration
    if migration is None:
        return _undone(move, "source", title, "the run ended before it was read")
    held = "" if migration.held_s is None else f"; writers waited {_seconds(migration.held_s)} for the snapshot"
    upgraded = f"; upgraded in a copy from revision {migration.upgraded_from}" if migration.upgraded_from else ""
    return Step(step=title, outcome="pass", said=f"{migration.family} at revision {migration.revision}{held}{upgraded}")


def _preflight(move: Move) -> Step:
    title = "preflight"
    migration = move.migration
    if migration is None:
        return _undone(move, "preflight", title, "the run ended before it")
    if not migration.problems:
        return Step(step=title, outcome="pass", said="every value can be stored exactly")
    first = migration.problems[0]
    where = f"{first.table}.{first.column}" if first.column else first.table
    more = f"; and {len(migration.problems) - 1} more" if len(migration.problems) > 1 else ""
    said = f"{where}: {first.reason}: {_plural(first.rows, 'row')}{_key(first.key)}{more}"
    return Step(step=title, outcome="fail", said=said, remedy=first.remedy)


def _copy(move: Move) -> Step:
    title = "copy"
    migration = move.migration
    if migration is None or not migration.passes:
        return _undone(move, "copy", title, "nothing was copied")
    said = "; then ".join(_pass(one, first=n == 0) for n, one in enumerate(migration.passes))
    took = sum(seconds for name, seconds in migration.seconds.items() if name != "proof")
    return Step(step=title, outcome="pass", said=f"{said}; {_seconds(took)} with snapshot, schema and indexes")


def _pass(one: Pass, *, first: bool) -> str:
    rate = f", {one.rows / one.seconds:,.0f} rows/s" if first and one.seconds else ""
    if first and one.inserted == one.rows and not (one.updated or one.deleted):
        return f"{_plural(one.rows, 'row')} in {_seconds(one.seconds)}{rate}"
    changes = f"{one.inserted:,} inserted, {one.updated:,} updated, {one.deleted:,} deleted"
    return f"{_plural(one.rows, 'row')} compared in {_seconds(one.seconds)}: {changes}"


def _proofs(move: Move) -> Iterator[Step]:
    """Rows, structure, and what MLflow's client reads, of the store itself."""
    proof = None if move.migration is None else move.migration.proof
    if proof is None or not (proof.tables or proof.structure):
        yield _undone(move, "proof", "proof: every row equal", _NO_COPY if move.migration is None else "not proved")
        return
    rows = sum(table.source_rows for table in proof.tables)
    bad = [table for table in proof.tables if not table.equal]
    wrong = sum(table.missing + table.extra + table.changed for table in bad)
    many = f"{_plural(wrong, 'row')} {'differs' if wrong == 1 else 'differ'}"
    yield _equal_or_not(
        "proof: every row equal",
        f"{_plural(rows, 'row')} in {len(proof.tables)} tables, bit for bit",
        f"{many} in {', '.join(table.table for table in bad)}" if bad else "",
        proof,
    )
    different = [f"{one.what} of {one.table}" for one in proof.structure]
    yield _equal_or_not(
        "proof: structure equal",
        "revision, columns, keys, indexes and sequences",
        f"{len(different)} differ: {'; '.join(different[:3])}" if different else "",
        proof,
    )
    if proof.client is None:
        title = "proof: MLflow's client reads the same"
        said = next((note for note in proof.notes if "client" in note), "MLflow's client was not asked")
        remedy = f"once the writers are stopped: trackbench verify {proof.source} {proof.target}"
        yield Step(step=title, outcome="not done", said=said, remedy=remedy)
        return
    read = ", ".join(f"{what} {number:,}x" for what, number in proof.client_read.items()) or "nothing to read"
    first = next((f"{one.what} {one.where}: {one.source} there, {one.target} here" for one in proof.client), "")
    yield _equal_or_not("proof: MLflow's client reads the same", read, first, proof)


def _equal_or_not(title: str, good: str, bad: str, proof: Proof) -> Step:
    if not bad:
        return Step(step=title, outcome="pass", said=good)
    remedy = f"Do not move. See each difference: trackbench verify {proof.source} {proof.target}"
    return Step(step=title, outcome="fail", said=bad, remedy=remedy)


def _load(found: Results, move: Move) -> Step:
    """Whether the criteria of the load hold, those with a fault aside."""
    title = "load held on the copy"
    cells = [cell for cell in found.cells if cell.candidate == move.candidate]
    own = [
        one
        for one in found.criteria
        if one.candidate == move.candidate and one.gating and not one.fault and not of_moves(one.field)
    ]
    if not cells:
        return _undone(move, "load", title, "nothing was measured")
    return _judged(title, own, f"all {len(own)} gating criteria hold", "See “Next” of the candidate.")


def _faults(found: Results, move: Move) -> Step:
    """What the target's own cells with a fault came to; nothing is broken on a server of the user's."""
    title = "faults survived"
    cells = [cell for cell in found.faults if cell.candidate == move.candidate]
    missing = [one for one in found.untested if one.candidate == move.candidate and one.applies]
    never = f"not tried: {'; '.join(dict.fromkeys(f'{one.fault}: {one.reason}' for one in missing))}"
    if not cells and missing and move.scratch:
        return Step(step=title, outcome="warn", said=never)
    if not cells:
        remedy = "" if move.scratch else f"rehearse with a private server: --target {move.target.partition(':')[0]}"
        default = "no fault was tried" if move.scratch else "faults were not tried: the server is yours"
        step = _undone(move, "faults", title, default)
        return step.model_copy(update={"remedy": step.remedy or remedy})
    step = _survived(title, cells, [one for one in found.criteria if one.candidate == move.candidate and one.fault])
    if not missing:
        return step
    outcome = "warn" if step.outcome == "pass" else step.outcome
    return step.model_copy(update={"outcome": outcome, "said": f"{step.said}; {never}"})


def _survived(title: str, cells: Sequence[FaultCell], criteria: Sequence[Criterion]) -> Step:
    """What was tried came to this."""
    bad = [cell for cell in cells if cell.outcome in ("lost", "broken")]
    if bad:
        said = "; ".join(f"{cell.fault}: {cell.reason}" for cell in bad)
        return Step(step=title, outcome="fail", said=said, remedy="Read “What was broken, and what was left”.")
    open_ones = [cell for cell in cells if cell.outcome == "unknown"]
    if open_ones:
        said = "; ".join(f"{cell.fault}: {cell.reason}" for cell in open_ones)
        return Step(step=title, outcome="unknown", said=said, remedy="Run it again.")
    names = ", ".join(dict.fromkeys(cell.fault for cell in cells))
    own = [one for one in criteria if one.gating]
    return _judged(title, own, f"every acknowledged write kept: {names}", "Read “What was broken, and what was left”.")


def _judged(title: str, own: Sequence[Criterion], good: str, remedy: str) -> Step:
    if not own:
        remedy = "Give the scenario a gating criterion on it."
        return Step(step=title, outcome="unknown", said="no gating criterion judges it", remedy=remedy)
    for outcome, told in (("fail", "fail"), ("inconclusive", "unknown")):
        missed = [one for one in own if one.outcome == outcome]
        if missed:
            more = f"; and {len(missed) - 1} more" if len(missed) > 1 else ""
            said = f"{missed[0].name} ({missed[0].expression}): {missed[0].reason}{more}"
            return Step.model_validate({"step": title, "outcome": told, "said": said, "remedy": remedy})
    return Step(step=title, outcome="pass", said=good)


def _after_load(move: Move) -> Step:
    title = "equal again after the load"
    proof = move.proof_after_load
    if proof is None:
        return _undone(move, "proof_after_load", title, _NO_COPY if move.migration is None else "not proved again")
    said = f"{_plural(proof.compared, 'row')}: nothing of the load is left, nothing is lost"
    return _equal_or_not(title, said, "" if proof.equal else differences(proof), proof)


def _readiness(move: Move) -> Iterator[Step]:
    """What fails, warns or may fail, a line each; all else in one."""
    title = "readiness"
    every = [check for one in move.readiness for check in one.checks if check.name != _BACKUP]
    checks = list({(check.title, check.outcome, check.found): check for check in every}.values())  # of one server: once
    if not checks:
        yield _undone(move, "readiness", title, "the target was not looked at")
        return
    told = [check for check in checks if check.outcome in ("fail", "warn") or in_doubt(check)]
    for check in sorted(told, key=lambda each: BADNESS.index(each.outcome), reverse=True):
        yield Step(step=f"{title}: {check.title}", outcome=check.outcome, said=check.found, remedy=check.remedy)
    good = sum(check.outcome == "pass" for check in checks)
    unknown = [check for check in checks if check.outcome == "unknown" and not in_doubt(check)]
    said = f"{good} of {_plural(len(checks), 'check')} pass"
    if unknown:  # what a managed server does not show is no reason to doubt the move
        said += f"; not for this login to see: {', '.join(check.title for check in unknown)}"
        remedy = "; ".join(check.remedy for check in unknown if check.remedy)
        yield Step(step=title, outcome="warn", said=said, remedy=remedy)
    elif good:
        yield Step(step=title, outcome="pass", said=said)


def _backup(move: Move) -> Step:
    title = "backup made and restored"
    tried: list[Check] = [check for one in move.readiness for check in one.checks if check.name == _BACKUP]
    if not tried:
        return _undone(move, "backup", title, move.why_not("readiness", "no backup was tried").reason)
    worst = max(tried, key=lambda check: BADNESS.index(check.outcome))
    return Step(step=title, outcome=worst.outcome, said=worst.found, remedy=worst.remedy)


def _others(move: Move) -> Iterator[Step]:
    """What belongs to the deployment beside its store."""
    yield from move.extra
    if not any(step.step.startswith("artifacts") for step in move.extra):
        yield _undone(move, "artifacts", "artifacts fetched", "no artifact was looked for")
    for one in move.also:
        yield _also(one)
    if not any(one.family == AUTH for one in move.also):
        remedy = "if MLflow asks for passwords: --also sqlite:///basic_auth.db=URL"
        yield Step(step=AUTH, outcome="not done", said="not given", remedy=remedy)


def _also(one: Migration) -> Step:
    title = f"{one.family}: {one.source}"
    if one.problems:
        first = one.problems[0]
        return Step(step=title, outcome="fail", said=f"{first.table}: {first.reason}", remedy=first.remedy)
    if one.proof is None:
        return Step(step=title, outcome="unknown", said="not proved equal")
    return _equal_or_not(title, f"{_plural(one.proof.compared, 'row')} moved, equal", _unequal(one.proof), one.proof)


def _unequal(proof: Proof) -> str:
    return "" if proof.equal else differences(proof)


def _undone(move: Move, part: Part, title: str, default: str) -> Step:
    """A step that was not made, with the reason where one is known."""
    why = move.why_not(part, default)
    return Step(step=title, outcome="not done", said=why.reason, remedy=why.remedy)


def _key(key: dict[str, str]) -> str:
    said = ", ".join(f"{name} {value}" for name, value in key.items())
    return f", first {said}" if said else ""


def _plural(number: int, one: str) -> str:
    return f"{number:,} {one}{'' if number == 1 else 's'}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:,.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
