"""The conditions of a run: all that must be alike before its figures may be set beside those of another run.

They are flat and readable: ``processor``, ``postgresql: setting synchronous_commit``, ``direct mixed at 20: duration``.
What stands before the last ``: `` is the condition's subject; without one it is the machine's or the harness's.
What a comparison is about is not among them (revision, seed, rounds), nor what no two runs share (load average, ports).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from bench.arrivals import Kind
from bench.cell import CLOSED
from bench.plan import Overrides, Trial, plan
from bench.results import Candidate
from bench.scenario import CandidateSpec, Scenario
from bench.stores.url import hide_password

METHOD: Final = "1"
"""Raised whenever a change of Trackbench moves figures that no store has moved: statements, windows, warm-up, units."""

COMPARED: Final = (
    "machine", "distribution", "processor", "cores", "memory", "file system of the stores", "python", "mlflow",
    "asyncpg", "aiomysql", "aiosqlite", "uvloop", "numpy", "locust", "httpx", "sqlalchemy",
    "psycopg2-binary", "pymysql",
)  # fmt: skip
SHOWN: Final = (
    "load average at the start", "trackbench", "git revision",
)  # fmt: skip
"""Facts of a run that may differ. A test holds every fact to one of the two lists."""


def conditions(
    scenario: Scenario,
    candidates: Sequence[Candidate],
    facts: Mapping[str, str],
    overrides: Overrides,
    addresses: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The conditions of a run of ``scenario`` with ``overrides``.

    Args:
        scenario: as it was run, so without what the user left out.
        candidates: what their servers said of themselves.
        facts: of the machine and its software, as `bench.environment.facts` gives them.
        overrides: what the command line changed.
        addresses: where the databases that the user gave lie, by candidate, without login or password.
    """
    found = {"measuring method": METHOD}
    found |= {name: _coarse(name, facts[name]) for name in COMPARED if name in facts}
    found |= {"retry": scenario.retry, "timeout": f"{scenario.timeout_s:g} s"}
    for candidate in candidates:
        own = dict(_of_candidate(candidate, scenario.candidates.get(candidate.name)))
        if address := (addresses or {}).get(candidate.name):
            own["address"] = address
        found |= {f"{candidate.name}: {what}": value for what, value in own.items()}
    trials = _one_of_each(scenario, overrides)
    for name in dict.fromkeys(trial.workload for trial in trials):
        spec = scenario.workloads[name].model_dump()
        found |= {f"workload {name}: {what}": _said(value) for what, value in spec.items()}
    for trial in trials:
        found |= {f"{_place(trial)}: {what}": value for what, value in _of_cell(trial)}
    return {" ".join(name.split()): " ".join(value.split()) for name, value in found.items()}


def unlike(base: Mapping[str, str], other: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """The conditions that differ, with what each run had; empty where one had no such condition.

    What only one of them measured at all (a candidate, a workload, a cell) is no difference: it is not compared.
    """
    subjects = {_subject(name) for name in base} & {_subject(name) for name in other} | {""}
    names = [name for name in dict.fromkeys([*base, *other]) if _subject(name) in subjects]
    pairs = {name: (base.get(name, ""), other.get(name, "")) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1] or (name in base) != (name in other)}


def _subject(name: str) -> str:
    return name.rpartition(": ")[0]


def _coarse(name: str, value: str) -> str:
    """A fact without the part that changes while the machine stays the same."""
    if name == "machine":  # "Linux 6.18.44-fc-v595 x86_64": security updates of a kernel come every week
        return re.sub(r"(\d+\.\d+)\S*", r"\1", value, count=1)
    if name == "memory":  # of equal machines one may have lent some MiB to its firmware
        number, _, unit = value.partition(" ")
        return f"{float(number):.0f} {unit}" if number.replace(".", "", 1).isdigit() else value
    return value


def _of_candidate(one: Candidate, spec: CandidateSpec | None) -> Iterator[tuple[str, str]]:
    yield "store", one.store
    yield "source", one.source
    yield "server version", one.server_version
    yield "prefill", one.prefill
    if one.schema_revision is not None:
        yield "schema revision", one.schema_revision
    for name, value in one.settings.items():
        yield f"setting {name}", value
    if spec is not None:  # what was asked for and is not among what is read back
        for name, value in spec.server.items():
            if name not in one.settings:
                yield f"setting {name}", value
    for name, value in one.tracking.items():
        yield f"tracking {name}", value
    if one.tracking and spec is not None and spec.tracking.artifact_root is not None:
        yield "tracking artifact root", hide_password(spec.tracking.artifact_root)


def _one_of_each(scenario: Scenario, overrides: Overrides) -> list[Trial]:
    """One trial of each group of cells, in the order of the scenario."""
    trials = [trial for trial in plan(scenario, replace(overrides, rounds=1)) if not trial.fault]
    return list({trial.group: trial for trial in reversed(trials)}.values())[::-1]


def _place(trial: Trial) -> str:
    load = "" if trial.load == CLOSED else f", {trial.load}"
    return f"{trial.driver} {trial.workload} at {trial.concurrency}{load}"


def _of_cell(trial: Trial) -> Iterator[tuple[str, str]]:
    if trial.count is not None:
        yield "operations of each writer", str(trial.count)
    else:
        yield "duration", f"{trial.duration_s:g} s"
    yield "warm-up", f"{trial.warmup_s:g} s"
    yield "least writes", str(trial.min_writes)
    pace = trial.pace
    if pace is None:
        return
    arrivals: dict[Kind, str] = {"poisson": "Poisson", "constant": "constant"}
    yield "arrivals", arrivals[pace.arrivals]
    yield "latency limit", "none" if pace.limit_ms is None else f"{pace.limit_ms:g} ms"
    if pace.share is not None:
        yield "share of", "its own maximum" if pace.of == "own" else "the lowest maximum of those that ran"


def _said(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
