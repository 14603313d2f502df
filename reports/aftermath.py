"""What the faults of a run come to: the answer, each candidate's facts, what to be alarmed of, what to do next."""

from collections.abc import Sequence

from bench.cell import Criterion, Verdict
from bench.fault_cell import FaultCell, Untested
from bench.results import Candidate, Results
from reports.figures import SYMBOLS, count, duration, one_line, plural
from reports.judged import crowd, limit_of, quantity_of
from reports.resilience import entry, labels, of_model, situation, stayed_away, why, worst_door, wrongs
from reports.rows import PARTED, doors

_MOST_NAMED = 2
_MOST_ALARMS = 3
_GONE = ("lost", "broken")
_EXIT_OF_LOSS = 4
_TIMES = {"fault.first_ok_s": "until the first ok after", "fault.gone_s": "without an ok under"}


def of(results: Results, candidate: str) -> list[FaultCell]:
    """A candidate's cells with a fault."""
    return [each for each in results.faults if each.candidate == candidate]


def count_of_faults(results: Results) -> int:
    """How many faults the run speaks of, tested or not."""
    return len({each.fault for each in results.faults} | {each.fault for each in results.untested})


def answer(results: Results, ranked: Sequence[Candidate], separator: str) -> str:
    """How many faults there were and how each candidate stood them: one line; candidates in the order to name them."""
    if not results.faults:
        none = f"None of {plural(count_of_faults(results), 'fault')} was tested"
        return f"{none}: {_first_missing(results.untested)}."
    said = [
        _stood(results, each, first=not index)
        for index, each in enumerate(each for each in ranked if of(results, each.name))
    ]
    alone = all(each.reference for each in results.faults)
    left = " (no candidate was judged: it takes a store beside the reference)" if alone else ""
    return f"{plural(count_of_faults(results), 'fault')}: {separator.join(said)}{left}"


def _stood(results: Results, candidate: Candidate, *, first: bool) -> str:
    cells = of(results, candidate.name)
    kept = sum(each.outcome == "kept" for each in cells)
    sign = "" if candidate.reference else f"{SYMBOLS[_verdict(results, candidate.name)]}\N{NO-BREAK SPACE}"
    what = " kept every acknowledged write in" if first else " in"
    bad = [each for each in sorted(cells, key=lambda each: each.outcome != "broken") if each.outcome != "kept"]
    named = [_named(results, each) for each in bad]
    more = [*named[:_MOST_NAMED], *([f"and {len(named) - _MOST_NAMED} more"] if len(named) > _MOST_NAMED else [])]
    away = _away(cells)
    missed = sum(found == candidate.name for found, _ in _missing(results, applies=True))
    parts = [
        f"{sign}{one_line(candidate.name)}{what} {_of(kept, cells)}",
        *more,
        *([f"away for at most {away}"] if away else []),
        *([f"{missed} not tested"] if missed else []),
    ]
    return ", ".join(parts)


def _of(kept: int, cells: Sequence[FaultCell]) -> str:
    """How many of these trials: ``all 20 trials``, ``9 of 11 trials``; of cells where each had several."""
    one = "trial" if all(each.rounds + each.rounds_lost <= 1 for each in cells) else "cell"
    tested = plural(len(cells), one)
    return f"all {tested}" if kept == len(cells) > 1 else f"{count(kept)} of {tested}"


def name_of(results: Results, cell: FaultCell) -> str:
    """What the cell's fault is called in this run."""
    return labels(results)[situation(cell)]


def _named(results: Results, cell: FaultCell) -> str:
    """What befell it, in brief: ``LOST 1 under power-lost-directory as its settings allow``."""
    word = entry(cell).text.partition(" ")[2]
    allowed = " as its settings allow" if cell.outcome == "lost" else ""
    return f"{word} under {name_of(results, cell)}{allowed}"


def _away(cells: Sequence[FaultCell]) -> str:
    """The longest time that a store was away; nothing where one never came back."""
    known = [gone for gone, _ in _absences(cells)]
    return "" if not known or any(map(stayed_away, cells)) else duration(max(known) * 1000)


def _absences(cells: Sequence[FaultCell]) -> list[tuple[float, FaultCell]]:
    """How long each store was away: neither a model of one nor a load that was itself the target tells that."""
    judged = [each for each in cells if not each.modelled and each.target != "load"]
    return [(each.gone_s, each) for each in judged if each.gone_s is not None]


def facts(results: Results, candidate: str) -> list[tuple[str, str]]:
    """For a candidate's headline: how many faults it stood, and the longest outage."""
    cells = of(results, candidate)
    if not cells:
        return []
    counted = {word: sum(each.outcome == word for each in cells) for word in ("lost", "broken", "unknown")}
    kept = sum(each.outcome == "kept" for each in cells)
    said = ", ".join([f"kept {kept} of {len(cells)}", *(f"{n} {word}" for word, n in counted.items() if n)])
    longest = longest_outage(results, cells)
    return [("trials with faults", said), *([("longest outage", longest)] if longest else [])]


def longest_outage(results: Results, cells: Sequence[FaultCell]) -> str:
    """The longest time without an ok operation, the fault's own length included; none of what never ended."""
    never = [name_of(results, each) for each in cells if stayed_away(each)]
    if never:
        return f"not back ({', '.join(never)})"
    timed = _absences(cells)
    if not timed:
        return ""
    gone, cell = max(timed, key=lambda pair: pair[0])
    return f"{duration(gone * 1000)} ({name_of(results, cell)})"


def alarms(results: Results, candidate: Candidate) -> list[str]:
    """What is gone or wrong after which fault, and whether the settings allow it; of the reference no mere model."""
    name = one_line(candidate.name)
    found = [each for each in of(results, candidate.name) if not (each.reference and each.modelled)]
    broken = [
        f"Data integrity is broken in {name} under {name_of(results, each)}: {_damage(each)}."
        for each in found
        if each.outcome == "broken"
    ]
    told = [*broken, *(_allowed(results, each) for each in found if each.outcome == "lost")]
    left = len(told) - _MOST_ALARMS
    more = [f"{name} lost or broke data under {plural(left, 'more fault')}: see the table."] if left > 0 else []
    return [*told[:_MOST_ALARMS], *more, *_parted(results, name, found)]


def _damage(cell: FaultCell) -> str:
    return wrongs(worst_door(cell)) or one_line(cell.reason) or "see its own structure check"


def _allowed(results: Results, cell: FaultCell) -> str:
    """Losing what may be lost is no surprise, but it is a loss."""
    gone = plural(worst_door(cell).lost, "acknowledged row")
    model = ", a model of a power loss" if cell.modelled else ""
    code = " It is exit code 4 all the same." if results.exit_code == _EXIT_OF_LOSS else ""
    allows = f" ({one_line(cell.may_lose)})" if cell.may_lose else ""
    where = f"under {name_of(results, cell)}{model}"
    return f"{one_line(cell.candidate)} lost {gone} {where}. Its settings allow that{allows}.{code}"


def modelled_losses(results: Results) -> list[tuple[str, str]]:
    """Where a model of a disk lost or broke something: (candidate and fault, what its power cuts did)."""
    found = [(each, of_model(each)) for each in results.faults if each.outcome in _GONE]
    return [(f"{one_line(each.candidate)}, {name_of(results, each)}", said) for each, said in found if said]


def _parted(results: Results, name: str, cells: Sequence[FaultCell]) -> list[str]:
    parted = [name_of(results, each) for each in cells if doors(each) == PARTED]
    return [f"MLflow's REST API and the tables of {name} show different rows ({', '.join(parted)})."] if parted else []


def next_step(results: Results, candidate: Candidate, decisive: Criterion | None) -> str:
    """What to do about what faults did to a candidate; empty where they ask for nothing of their own."""
    cells = {outcome: [each for each in of(results, candidate.name) if each.outcome == outcome] for outcome in _STEPS}
    failed = decisive is not None and decisive.outcome == "fail"
    passed_over = {"unknown"} if failed or results.run.interrupted else set()
    worst = next((found for word, found in cells.items() if found and word not in passed_over), None)
    if worst is not None:
        names = " and ".join(name_of(results, each) for each in worst[:_MOST_NAMED])
        return _STEPS[worst[0].outcome].format(names=names)
    return _after_failure(decisive) if decisive is not None and decisive.fault and failed else ""


def _after_failure(decisive: Criterion) -> str:
    """What to do where a fault's cell failed a criterion though no data is gone: that fault, and how long it may be."""
    name = one_line(decisive.fault)
    limit = f"limit {limit_of(decisive)}"
    if decisive.measured is None or decisive.field not in _TIMES:
        return f"Do not move yet. See under Faults what clients saw in {name} ({limit})."
    took = quantity_of(decisive, decisive.measured)
    return f"Do not move yet: {took} {_TIMES[decisive.field]} {name}, {limit}. See under Faults what clients saw."


def nothing_tested(results: Results, candidate: str) -> str:
    """Which fault the candidate could not get, and why; empty where it got one, or none was meant for it."""
    own = [each for each in results.untested if each.candidate == candidate]
    return "" if of(results, candidate) or not own else _first_missing(own)


def _first_missing(missing: Sequence[Untested]) -> str:
    """The first fault that was not had though it could happen, else the first at all, with its reason."""
    first = min(missing, key=lambda each: not each.applies)
    return f"{one_line(first.fault)} could not be had ({why(first)})"


_STEPS = {
    "broken": "Do not move to it. Read the rows found wrong after {names}, then repeat with the same seed.",
    "lost": "Choose settings that survive this ({names}; see Durability under Settings), or accept the loss knowingly.",
    "unknown": "Find out why {names} could not be judged (see under Faults), then run again.",
}


def decides(cells: Sequence[FaultCell]) -> bool:
    """Whether data is gone or wrong in any of them; what a model took from the reference decides nothing."""
    return any(each.outcome in _GONE and not (each.reference and each.modelled) for each in cells)


def befell(results: Results, criterion: Criterion) -> str:
    """What was lost in the cell of a criterion on a fault, in the judge's words; empty where nothing was."""
    own = (criterion.candidate, criterion.fault, criterion.driver, criterion.workload, criterion.concurrency)
    hit = [each for each in results.faults if (each.candidate, *situation(each)) == own and each.outcome in _GONE]
    return f"{name_of(results, hit[0])}: {one_line(hit[0].reason)}" if hit and hit[0].reason else ""


def scope(results: Results) -> list[tuple[str, str]]:
    """Which faults were tested, and what power losses were."""
    if not count_of_faults(results):
        return []
    power = power_losses(results)
    return [("Faults", _tested(results)), *([("Power losses", power)] if power else [])]


def _tested(results: Results) -> str:
    tested = {one_line(each.fault) for each in results.faults}
    levels = dict.fromkeys(crowd(each.driver, each.concurrency) for each in results.faults)
    never = dict.fromkeys(one_line(each.fault) for each in results.untested if one_line(each.fault) not in tested)
    said = f"{len(tested)} tested, as the table says, each in trials of its own ({', '.join(levels)})"
    none = f"tested on no candidate: {', '.join(never)}"
    return "; ".join([*([said] if tested else []), *([none] if never else [])])


def power_losses(results: Results) -> str:
    """On which candidates a power loss was modelled, and on which it was not tested; nothing without such a fault."""
    modelled = [each for each in results.faults if each.modelled]
    if not modelled:
        return ""
    names = {each.fault for each in modelled}
    who = dict.fromkeys(one_line(each.candidate) for each in modelled)
    left = dict.fromkeys(one_line(each.candidate) for each in results.untested if each.fault in names and each.applies)
    said = (
        f"a model, for {', '.join(who)} alone: a disk that drops what was written and not synced; contents of files "
        "and entries of directories apart"
    )
    return f"{said}. Not tested for {', '.join(left)}" if left else said


def brief(results: Results) -> list[tuple[str, str]]:
    """How much of the matrix was tested, in one line."""
    if not count_of_faults(results):
        return []
    missed, never = (len(_missing(results, applies=applies)) for applies in (True, False))
    modelled = dict.fromkeys(one_line(each.candidate) for each in results.faults if each.modelled)
    said = [
        f"{count_of_faults(results)} in all: {plural(len(results.faults), 'cell')} tested",
        *([f"{count(missed)} not tested"] if missed else []),
        *([f"{count(never)} can't happen"] if never else []),
        *([f"power losses are a model ({', '.join(modelled)})"] if modelled else []),
    ]
    return [("Faults", ", ".join(said))]


def _missing(results: Results, *, applies: bool) -> set[tuple[str, str]]:
    """Each (candidate, fault) that was not tested, or can't be; once, at however many places or in how many rounds."""
    return {(each.candidate, each.fault) for each in results.untested if each.applies == applies}


def _verdict(results: Results, candidate: str) -> Verdict:
    return results.verdicts.get(candidate, "inconclusive")
