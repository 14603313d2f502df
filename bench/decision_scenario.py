"""A scenario as it is run where a store is moved first: the candidates that are left, and what more is tried.

The reference keeps its place, filled with the same data where it can be; of the others only the target's kind is left.
On a private server of ours some faults are tried too: nothing is ever broken on a server of the user's.
"""

from __future__ import annotations

from typing import Final

from bench import scenario as scenarios
from bench.decision_request import Wanted
from bench.faults.spec import FaultSpec
from bench.judge.criteria import parse
from bench.judge.fields import FAULT, READINESS
from bench.scenario import CellSpec, LoadedScenario, Prefill, Scenario

FAULTS: Final = {
    "direct": ["server-killed", "network-reset", "sessions-ended", "rows-locked"],
    "http": ["mlflow-killed", "server-killed-under-mlflow"],
}
"""Of ``scenarios/faults.toml``: what a production server meets sooner or later, a minute in all."""

PREFILL: Final = Prefill(runs=20, metrics=6_000)
_WORKLOAD, _WRITERS, _LIMIT_S = "log_metric", 8, 150.0


def reduced(loaded: LoadedScenario, wanted: Wanted) -> tuple[LoadedScenario, str, tuple[str, ...]]:
    """The scenario for a move, the name of the target's candidate, and notes on what was left out."""
    whole = loaded.scenario
    candidate = _candidate(whole, wanted)
    kept = _kept(whole, candidate)
    left_out = [name for name in whole.candidates if name not in kept]
    notes = [f"Left out, since the store was moved to {wanted.target.kind}: {', '.join(left_out)}."] if left_out else []
    reference = whole.reference if whole.reference in kept and whole.reference != candidate else None
    spec = scenarios.CandidateSpec.model_validate({"store": wanted.target.kind})
    criteria = [one for one in whole.criteria if reference is not None or not parse(one.expression).uses_reference]
    dropped = [one.name for one in whole.criteria if one not in criteria]
    notes += [f"Not judged, since the reference did not run: {name}." for name in dropped]
    if wanted.scratch:
        asked = [one.name for one in criteria if parse(one.expression).field.startswith(READINESS)]
        criteria = [one for one in criteria if one.name not in asked]
        notes += [f"Not judged, since the target is a private server: {', '.join(asked)}."] if asked else []
    changes = {
        "candidates": {name: whole.candidates.get(name, spec) for name in kept},
        "reference": reference,
        "control": whole.control if whole.control in ("", *kept) else None,
        "criteria": criteria,
        "prefill": _small(whole.prefill),
    }
    made = whole.model_copy(update=changes)
    if wanted.scratch:
        made = _with_faults(made)
        notes.append("Faults were tried on the target alone.")
    return loaded.model_copy(update={"scenario": made}), candidate, tuple(notes)


def _candidate(whole: Scenario, wanted: Wanted) -> str:
    """The target's candidate: the first of its kind, else a new one."""
    kind = wanted.target.kind
    found = next((name for name, spec in whole.candidates.items() if spec.store == kind), None)
    return found or (kind if kind not in whole.candidates else f"{kind}-target")


def _kept(whole: Scenario, candidate: str) -> list[str]:
    """The reference, if it is another store's, and the target."""
    others = [whole.reference] if whole.reference not in (None, candidate) else []
    return [*(name for name in others if name is not None), candidate]


def _small(prefill: Prefill) -> Prefill:
    """The copy has the user's own data; a few runs of ours are what reads look at."""
    if not prefill.runs:
        return prefill
    return Prefill(runs=min(prefill.runs, PREFILL.runs), metrics=min(prefill.metrics, PREFILL.metrics))


def _patient(fault: FaultSpec) -> FaultSpec:
    """MLflow takes longer to come back here: it has more workers than where the faults come from."""
    return fault.model_copy(update={"limit_s": max(fault.limit_s, _LIMIT_S)}) if fault.target == "tracking" else fault


def _with_faults(made: Scenario) -> Scenario:
    """The scenario with faults, and with the criteria that go with them."""
    source = scenarios.load("faults").scenario
    wanted = [name for names in FAULTS.values() for name in names if name not in made.faults]
    work = source.workloads[_WORKLOAD]
    name = _WORKLOAD if made.workloads.get(_WORKLOAD, work) == work else f"{_WORKLOAD}-under-faults"
    plain = {"workload": name, "concurrency": [_WRITERS], "rounds": 1}
    cells = [
        CellSpec.model_validate({**plain, "driver": driver, "faults": own})
        for driver, names in FAULTS.items()
        if (own := [one for one in names if one in wanted])
    ]
    criteria = [
        one.model_copy(update={"faults": None if one.faults is None else [n for n in one.faults if n in wanted]})
        for one in source.criteria
        if one.gating
        and parse(one.expression).field.startswith(FAULT)
        and (one.faults is None or set(one.faults) & set(wanted))
    ]
    return made.model_copy(
        update={
            "faults": {**made.faults, **{one: _patient(source.faults[one]) for one in wanted}},
            "workloads": {**made.workloads, name: work},
            "cells": [*made.cells, *cells],
            "criteria": [*made.criteria, *criteria],
        }
    )
