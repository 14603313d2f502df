"""Runs with faults that went wrong, and names in them that try to break out of a format."""

from collections.abc import Callable, Sequence

from fixtures_results import HOSTILE, STORES, Changes, realistic
from fixtures_results_faults import faulted

from bench.cell import Integrity
from bench.fault_cell import Event, FaultCell, FaultSeen
from bench.results import Results

GAVE_UP = "the store did not come back within 60 s"


def changed(results: Results, change: Callable[[FaultCell], Changes]) -> Results:
    """The run with each of its fault cells changed."""
    return results.model_copy(
        update={"faults": [each.model_copy(update=change(each)) for each in results.faults]},
    )


def some(names: Sequence[str]) -> Results:
    """The run with these faults alone: fewer plots to draw."""
    full = faulted()
    return full.model_copy(
        update={
            field: [each for each in getattr(full, field) if each.fault in names]
            for field in ("faults", "untested", "criteria")
        }
    )


def only(results: Results, cells: Sequence[FaultCell]) -> Results:
    """The run with these fault cells alone."""
    return results.model_copy(update={"faults": list(cells), "untested": [], "criteria": []})


def allowed() -> Results:
    """PostgreSQL lost rows after kill -9, as synchronous_commit=off allows: exit code 4 all the same."""
    may_lose = "the last 600 ms of commits: synchronous_commit=off"

    def change(cell: FaultCell) -> Changes:
        if (cell.candidate, cell.fault, cell.driver) != ("postgresql", "server-killed", "direct"):
            return {}
        gone = cell.integrity.model_copy(update={"lost": 1234})
        reason = f"1,234 of 2,456 acknowledged rows are gone, as its settings allow: {may_lose}"
        return {"integrity": gone, "outcome": "lost", "may_lose": may_lose, "reason": reason}

    found = changed(some(("server-killed", "rows-locked")), change)
    reasons = found.reasons | {"postgresql": "fault server-killed: 1,234 of 2,456 acknowledged rows are gone"}
    verdicts = found.verdicts | {"postgresql": "fail"}
    return found.model_copy(update={"verdicts": verdicts, "reasons": reasons, "verdict": "fail", "exit_code": 4})


def damaged() -> Results:
    """MySQL broke under a reset network, and TimescaleDB never came back from a full disk."""

    def change(cell: FaultCell) -> Changes:
        if (cell.candidate, cell.fault) == ("mysql", "network-reset"):
            wrong = Integrity(
                checked=True, attempted=990, acknowledged=980, stored=979, lost=2, duplicated=1, corrupted=1,
                invariants={"latest_metrics_is_maximum": 1}, examples=["run 4b, key acc, step 9: bits differ"],
            )  # fmt: skip
            reason = "2 of 980 acknowledged rows are gone, 1 duplicated, against what its settings promise"
            return {"integrity": wrong, "outcome": "broken", "reason": reason}
        if (cell.candidate, cell.fault) == ("timescaledb", "disk-full"):
            away: Changes = {"end_s": None, "first_ok_s": None, "gone_s": 59.0, "examined": None}
            return {
                "seen": [cell.seen[0].model_copy(update=away)], "first_ok_s": None, "gone_s": 59.0, "rounds": 0,
                "rounds_lost": 1, "integrity": Integrity(checked=False, reason=GAVE_UP), "outcome": "unknown",
                "reason": f"it could not be measured: {GAVE_UP}",
            }  # fmt: skip
        return {}

    found = changed(some(("server-killed", "network-reset", "disk-full", "power-lost-directory")), change)
    broken: Changes = {"outcome": "fail", "measured": 0.996, "reason": "measured 0.996"}
    unknown: Changes = {"outcome": "inconclusive", "measured": None, "reason": GAVE_UP}
    hit = {("mysql", "network-reset", "integrity"): broken, ("timescaledb", "disk-full", "integrity"): unknown}
    told = {
        "mysql": "fault network-reset: 2 of 980 acknowledged rows are gone, 1 duplicated, against what its settings "
        "promise (log_metric at 8)",
        "timescaledb": f"every acknowledged write is there (integrity == 1, log_metric at 8, disk-full): {GAVE_UP}",
    }
    return found.model_copy(
        update={
            "criteria": [
                each.model_copy(update=hit.get((each.candidate, each.fault, each.field), {})) for each in found.criteria
            ],
            "verdicts": found.verdicts | {"mysql": "fail", "timescaledb": "inconclusive"},
            "reasons": found.reasons | told,
            "verdict": "fail",
            "exit_code": 4,
        }
    )


def beside_cells() -> Results:
    """A run with ordinary cells and two faults."""
    plain, few = realistic(), some(("server-frozen", "power-lost-directory"))
    both: Changes = {"faults": few.faults, "untested": few.untested, "criteria": [*plain.criteria, *few.criteria]}
    return plain.model_copy(update=both)


def untested_only() -> Results:
    """No fault could be tested here."""
    full = faulted()
    changes: Changes = {"faults": [], "criteria": [], "reasons": {}, "verdict": "inconclusive", "exit_code": 3}
    return full.model_copy(update=changes | {"verdicts": dict.fromkeys(STORES, "inconclusive")})


def cut_off() -> Results:
    """Interrupted after a handful of trials: of most faults nothing is known."""
    full = faulted()
    run = full.run.model_copy(update={"interrupted": True, "trials_done": 5})
    reasons = dict.fromkeys(STORES, "the run was interrupted after 5 trials")
    verdicts = dict.fromkeys(STORES, "inconclusive")
    changes: Changes = {"run": run, "faults": full.faults[:5], "criteria": full.criteria[:5], "exit_code": 130}
    return full.model_copy(update=changes | {"verdicts": verdicts, "reasons": reasons, "verdict": "inconclusive"})


def bare() -> Results:
    """Faults of which nothing is known but their names."""

    def change(cell: FaultCell) -> Changes:
        empty = FaultSeen(name=cell.fault, kind=cell.kind, target=cell.target, says="")
        return {
            "seen": [] if cell.candidate == "mysql" else [empty], "first_ok_s": None, "gone_s": None, "says": "",
            "errors": {}, "outcome": "unknown", "reason": "", "rounds": 0, "rounds_lost": 1,
            "integrity": Integrity(checked=False), "integrity_rest": None,
        }  # fmt: skip

    found = changed(faulted(), change)
    return only(found, found.faults[:24])


def hostile_faults() -> Results:
    """Every free text of a run with faults tries to break out of its format."""

    def change(cell: FaultCell) -> Changes:
        texts: Changes = {
            "name": HOSTILE,
            "says": HOSTILE,
            "examined": HOSTILE,
            "events": [Event(at_s=1, what=HOSTILE)],
        }
        found = [
            each.model_copy(
                update=texts
                | {"timeline": [moment.model_copy(update={"errors": {HOSTILE: 3}}) for moment in each.timeline]}
            )
            for each in cell.seen
        ]
        wrong: Changes = {"lost": 2, "examples": [HOSTILE], "invariants": {HOSTILE: 1}}
        return {
            "fault": f"{HOSTILE}{cell.fault}", "says": HOSTILE, "reason": HOSTILE, "may_lose": HOSTILE,
            "workload": HOSTILE, "errors": {HOSTILE: 3}, "seen": found,
            "outcome": "broken" if cell.candidate == "mysql" else "lost",
            "integrity": cell.integrity.model_copy(update=wrong),
        }  # fmt: skip

    full = changed(faulted(), change)
    names: Changes = {"name": HOSTILE, "fault": HOSTILE, "reason": HOSTILE}
    powered = [each for each in full.faults if each.modelled]
    return full.model_copy(
        update={
            "faults": [*full.faults[:6], *powered],
            "untested": [each.model_copy(update={"fault": HOSTILE, "reason": HOSTILE}) for each in full.untested[-2:]],
            "criteria": [each.model_copy(update=names) for each in full.criteria[:4]],
            "run": full.run.model_copy(update={"title": HOSTILE}),
            "reasons": dict.fromkeys(full.reasons, HOSTILE),
            "exit_code": 4,
        }
    )


EVERY_FAULTED: dict[str, Callable[[], Results]] = {
    each.__name__: each
    for each in (faulted, allowed, damaged, beside_cells, untested_only, cut_off, bare, hostile_faults)
}
