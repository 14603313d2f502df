"""Scenarios: TOML files, validated once into frozen objects; what is wrong is said in one line with its place."""

import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.arrivals import Kind
from bench.cell import CLOSED
from bench.errors import BadInput
from bench.faults.rules import misfits, wrong
from bench.faults.spec import FaultSpec
from bench.judge.criteria import parse
from bench.judge.fields import of_cells
from bench.judge.places import misnamed, why_nowhere
from bench.toml_lines import KeyPath, place
from bench.workload import MAX_BATCH_METRICS, MAX_BATCH_PARAMS, MAX_BATCH_TAGS, Workload

FOLDER = Path(__file__).resolve().parent.parent / "scenarios"
MAX_WRITERS = 1000
Driver = Literal["direct", "http"]
StoreName = Literal["sqlite", "postgresql", "timescaledb", "mysql", "mariadb"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Prefill(_Frozen):
    """How full a store is before the trials: ``metrics`` rows spread over ``runs`` runs."""

    runs: int = Field(0, ge=0, le=60_000)
    metrics: int = Field(0, ge=0)


class TrackingSpec(_Frozen):
    """Settings of the tracking server in front of a store; what is not given is MLflow's own default."""

    workers: int = Field(4, ge=1, le=64)
    pool_size: int | None = Field(None, ge=1, le=1000)
    max_overflow: int | None = Field(None, ge=1, le=1000)
    authentication: bool = False
    artifact_root: str | None = None


class CandidateSpec(_Frozen):
    """A store and the settings under test: of its server (ours only), of each session, of its tracking server."""

    store: StoreName
    server: dict[str, str] = {}
    session: dict[str, str] = {}
    tracking: TrackingSpec = TrackingSpec.model_validate({})


class WorkloadSpec(_Frozen):
    """One workload; see `bench.workload.Workload` for the meaning of each key."""

    kind: Literal["log_metric", "log_batch", "train", "read", "mixed", "traces", "bulk"]
    metrics: int = Field(1, ge=0, le=100_000)
    params: int = Field(0, ge=0, le=MAX_BATCH_PARAMS)
    tags: int = Field(0, ge=0, le=MAX_BATCH_TAGS)
    keys: int = Field(3, ge=1, le=10_000)
    steps: int = Field(100, ge=1, le=1_000_000)
    hot_run: bool = False
    fresh_keys: bool = False
    shuffled: bool = False
    lockstep: bool = False
    read_share: float = Field(0.0, ge=0.0, lt=1.0)
    experiments: bool = False
    spans: int = Field(8, ge=1, le=1000)

    def workload(self, name: str) -> Workload:
        """The workload under its name in the scenario."""
        return Workload(name, **self.model_dump())


class CellSpec(_Frozen):
    """A workload at some concurrency levels; rounds and times may differ from the scenario's.

    ``runs`` (kind ``train``) ends each writer after so many runs, ``count`` after so many operations.

    Each ``rate`` (operations a second over all writers) and each ``load`` (a share of the maximum throughput that the
    closed loop of the same cell has found; ``of`` says whose: its own, or the slowest candidate's) makes an open loop:
    operations are due by a schedule, at most ``concurrency`` of them are in flight, and one that could not be sent
    within ``limit_ms`` is skipped. ``objective`` asks for the highest of these rates at which it holds.
    """

    workload: str
    driver: Driver = "direct"
    concurrency: list[int] = Field(min_length=1)
    rounds: int | None = Field(None, ge=1)
    warmup_s: float | None = Field(None, ge=0)
    duration_s: float | None = Field(None, gt=0)
    count: int | None = Field(None, ge=1)
    runs: int | None = Field(None, ge=1)
    min_writes: int = Field(0, ge=0)
    load: list[Annotated[float, Field(gt=0, le=2)]] = []
    rate: list[Annotated[float, Field(ge=0.01, le=1_000_000)]] = []
    of: Literal["own", "lowest"] = "own"
    arrivals: Kind = "poisson"
    limit_ms: float | None = Field(None, gt=0)
    objective: str | None = None
    faults: list[str] = []

    @property
    def loads(self) -> list[str]:
        """The names of its loads, as cells have them; an open loop has one for each rate."""
        return [*(share_label(one) for one in self.load), *(rate_label(one) for one in self.rate)] or [CLOSED]


def share_label(share: float) -> str:
    """The name of an open loop at a share of the maximum."""
    return f"{share * 100:g} %"


def rate_label(rate: float) -> str:
    """The name of an open loop at an absolute rate."""
    return f"{rate:g}/s"


class CriterionSpec(_Frozen):
    """One expression over results: of all drivers, workloads, levels and stores of which it names none.

    ``table`` says in which of the report's tables it stands, ``published`` what a published report says there.
    """

    name: str
    expression: str
    driver: Driver | None = None
    workload: str | None = None
    concurrency: int | None = None
    loop: Literal["closed", "open"] | None = None
    stores: list[StoreName] | None = None
    faults: list[str] | None = None
    gating: bool = True
    table: Literal["", "published", "decides"] = ""
    published: str | None = None


class Scenario(_Frozen):
    """A whole scenario."""

    title: str
    seed: int = 1
    rounds: int = Field(10, ge=1, le=1000)
    warmup_s: float = Field(0.5, ge=0)
    duration_s: float = Field(2.0, gt=0)
    timeout_s: float = Field(30.0, gt=0)
    retry: Literal["none", "mlflow"] = "none"
    reference: str | None = None
    keep_reference: bool = False
    control: str | None = None
    baseline: str | None = None
    prefill: Prefill = Prefill(runs=0, metrics=0)
    candidates: dict[str, CandidateSpec] = Field(min_length=1)
    workloads: dict[str, WorkloadSpec] = Field(min_length=1)
    faults: dict[str, FaultSpec] = {}
    cells: list[CellSpec] = Field(min_length=1)
    criteria: list[CriterionSpec] = []


class LoadedScenario(_Frozen):
    """A scenario with its name and its text, which the run's folder keeps verbatim."""

    name: str
    text: str
    scenario: Scenario


def known() -> list[str]:
    """The names of the scenarios that come with Trackbench."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name_or_path: str) -> LoadedScenario:
    """Read a scenario by name or by the path of its file.

    Raises:
        BadInput: no such scenario, not TOML, or a key or value that a scenario cannot have.
    """
    path = (
        Path(name_or_path) if "/" in name_or_path or name_or_path.endswith(".toml") else FOLDER / f"{name_or_path}.toml"
    )
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise BadInput(f"no scenario {name_or_path!r}; use one of {', '.join(known())}, or a .toml file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: can't be read ({error}); give a readable TOML file") from error
    return LoadedScenario(name=path.stem, text=text, scenario=parse_text(text, str(path)))


def parse_text(text: str, where: str) -> Scenario:
    """Parse and check a scenario's text; ``where`` is the file's name for messages.

    Raises:
        BadInput: as for `load`.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{where}: not valid TOML: {error}") from error
    try:
        scenario = Scenario.model_validate(raw)
    except ValidationError as error:
        raise BadInput(_explain(text, where, error)) from error
    _check_names(scenario, text, where)
    return scenario


def _check_names(scenario: Scenario, text: str, where: str) -> None:
    """What the types can't say: names that must exist, and values that depend on one another."""
    refuse = partial(_refuse, text, where)
    if scenario.reference is not None and scenario.reference not in scenario.candidates:
        refuse(("reference",), f"unknown candidate {scenario.reference!r}", sorted(scenario.candidates))
    for name, candidate in scenario.candidates.items():
        if candidate.store == "sqlite" and candidate.server:
            refuse(("candidates", name, "server"), "SQLite has no server; its settings are PRAGMAs under session")
    _check_faults(scenario, refuse)
    _check_cells(scenario, refuse)
    for name, work in scenario.workloads.items():
        if problem := _misfit(work, scenario):
            refuse(("workloads", name), f"workload {name!r}: {problem}")
    if (
        bool(scenario.prefill.metrics) != bool(scenario.prefill.runs)
        or scenario.prefill.metrics < scenario.prefill.runs
    ):
        refuse(("prefill", "metrics"), "metrics belong to runs, at least one to each; set runs and metrics to fit")
    for number, cell in enumerate(scenario.cells):
        if cell.objective is not None:
            _check_objective(cell.objective, partial(refuse, ("cells", number, "objective")))
    if scenario.control and scenario.control not in scenario.candidates:
        refuse(("control",), f"unknown candidate {scenario.control!r}", sorted(scenario.candidates))
    for number, criterion in enumerate(scenario.criteria):
        if criterion.workload is not None and criterion.workload not in scenario.workloads:
            problem = f"criterion {criterion.name!r}: unknown workload {criterion.workload!r}"
            refuse(("criteria", number, "workload"), problem, sorted(scenario.workloads))
        _check_criterion(criterion, scenario, number, refuse)


def _check_faults(scenario: Scenario, refuse: Callable[..., None]) -> None:
    for name, fault in scenario.faults.items():
        for key, problem in wrong(fault):
            refuse(("faults", name, key), f"fault {name!r}: {problem}")
    taken: set[tuple[object, ...]] = set()
    for number, cell in enumerate(scenario.cells):
        work = scenario.workloads.get(cell.workload)
        if work is None or "faults" not in cell.model_fields_set:
            continue
        for problem in misfits(cell, scenario.faults, work.kind, cell.model_fields_set):
            refuse(("cells", number, "faults"), f"workload {cell.workload!r}: {problem}")
        for spot in ((cell.driver, cell.workload, n, name) for n in cell.concurrency for name in cell.faults):
            if spot in taken:
                refuse(("cells", number, "faults"), f"fault {spot[-1]!r} comes twice at one place")
            taken.add(spot)


def _check_cells(scenario: Scenario, refuse: Callable[..., None]) -> None:
    for number, cell in enumerate(scenario.cells):
        here = ("cells", number)
        if cell.workload not in scenario.workloads:
            refuse((*here, "workload"), f"unknown workload {cell.workload!r}", sorted(scenario.workloads))
        elif problem := misplaced(cell, scenario.workloads[cell.workload]):
            refuse((*here, "workload"), f"workload {cell.workload!r}: {problem}")
        for problem in _unpaced(cell, scenario):
            refuse((*here, "load" if cell.load else "rate"), f"workload {cell.workload!r}: {problem}")
        for level in cell.concurrency:
            if not 1 <= level <= MAX_WRITERS:
                refuse((*here, "concurrency"), f"concurrency {level} is not between 1 and {MAX_WRITERS}")


def _unpaced(cell: CellSpec, scenario: Scenario) -> list[str]:
    """Why a cell's open loop can't be had, in words."""
    work = scenario.workloads[cell.workload]
    if not cell.load and not cell.rate:
        idle = [name for name in ("limit_ms", "objective", "of", "arrivals") if name in cell.model_fields_set]
        return [f"{name} belongs to an open loop; set load or rate" for name in idle]
    here = (cell.driver, cell.workload)
    partners = [one for one in scenario.cells if (one.driver, one.workload) == here and not one.faults]
    maxima = {level for one in partners if one.loads == [CLOSED] for level in one.concurrency}
    missing = sorted(set(cell.concurrency) - maxima)
    rules = {
        "count and runs end a closed loop; an open loop lasts duration_s": cell.count or cell.runs,
        "lockstep is a closed loop's": work.lockstep,
        f"two of its loads are the same: {', '.join(cell.loads)}": len(set(cell.loads)) < len(cell.loads),
        f"load is a share of the maximum; add a cell without load or rate at concurrency {missing[:1]}": cell.load
        and missing,
    }
    return [problem for problem, broken in rules.items() if broken]


def _check_criterion(criterion: CriterionSpec, scenario: Scenario, number: int, refuse: Callable[..., None]) -> None:
    path, here = ("criteria", number), f"criterion {criterion.name!r}"
    _check_expression(criterion.expression, here, scenario, partial(refuse, (*path, "expression")))
    if problem := misnamed(criterion, scenario):
        refuse((*path, "faults"), f"{here}: {problem}")
    if problem := why_nowhere(criterion, scenario):
        refuse((*path, "expression"), f"{here} {problem}")


def _check_objective(text: str, refuse: Callable[..., None]) -> None:
    try:
        expression = parse(text)
    except BadInput as error:
        refuse(f"objective: {error}")
        return
    if not of_cells(expression.field):
        refuse(f"objective {text!r}: {expression.field} is of cells with a fault")
    if expression.against:
        refuse(f"objective {text!r} needs a limit of its own, as in `p99_ms <= 250`")


def _check_expression(text: str, here: str, scenario: Scenario, refuse: Callable[..., None]) -> None:
    try:
        expression = parse(text)
    except BadInput as error:
        refuse(f"{here}: {error}")
        return
    if expression.uses_reference and scenario.reference is None:
        refuse(f"{here} needs a reference; name one")
    if expression.against == "baseline" and scenario.baseline is None:
        refuse(f"{here} needs a baseline; name the folder of a run")


def misplaced(cell: CellSpec, work: WorkloadSpec) -> str | None:
    """Why a workload can't be measured in this cell, in words; None where it can."""
    rules = {
        'kind bulk goes straight into the tables; set driver = "direct"': work.kind == "bulk" and cell.driver == "http",
        'kind traces goes through a tracking server; set driver = "http"': work.kind == "traces"
        and cell.driver == "direct",
        'experiments are made through a tracking server; set driver = "http"': work.kind == "train"
        and work.experiments
        and cell.driver == "direct",
        "runs belongs to kind train; use count": cell.runs is not None and work.kind != "train",
        "runs and count both say when a writer ends; set one": cell.runs is not None and cell.count is not None,
    }
    return next((problem for problem, broken in rules.items() if broken), None)


def _misfit(work: WorkloadSpec, scenario: Scenario) -> str | None:
    """Why a workload makes no sense, in words; None where it does."""
    batch = work.metrics + work.params + work.tags
    batched = work.kind == "log_batch" or (work.kind == "mixed" and batch > 1)
    rules = {
        f"a batch holds 1 to {MAX_BATCH_METRICS} items, as MLflow's own limit says": batched
        and not 1 <= batch <= MAX_BATCH_METRICS,
        "it reads prefilled runs; set runs and metrics under [prefill]": work.kind in ("read", "mixed")
        and scenario.prefill.runs == 0,
        "read_share above 0 belongs to kind mixed, and mixed needs it": work.kind != "traces"
        and (work.kind == "mixed") != (work.read_share > 0),
        "experiments belongs to kind train": work.experiments and work.kind != "train",
        "metrics must be 1; log_batch writes several at once": work.kind in ("log_metric", "train")
        and work.metrics != 1,
        "metrics must be at least 1": work.kind in ("bulk", "mixed") and work.metrics == 0,
        "params and tags belong to log_batch, mixed and train": work.kind in ("log_metric", "bulk", "read", "traces")
        and work.params + work.tags > 0,
        "fresh_keys needs metrics": work.fresh_keys and work.metrics == 0,
        "train makes runs of its own: no hot_run, no fresh_keys": work.kind == "train"
        and (work.hot_run or work.fresh_keys),
        "lockstep belongs to log_metric, log_batch and bulk": work.lockstep
        and work.kind not in ("log_metric", "log_batch", "bulk"),
    }
    return next((problem for problem, broken in rules.items() if broken), None)


def _explain(text: str, where: str, error: ValidationError) -> str:
    first = error.errors()[0]
    path = first["loc"]
    kind, context = first["type"], first.get("ctx", {})
    here = place(text, where, path)
    dotted = ".".join(map(str, path))
    if kind == "extra_forbidden":
        return f"{here}: unknown key {dotted!r}; allowed here: {', '.join(_fields([str(part) for part in path[:-1]]))}"
    if kind == "missing":
        return f"{here}: key {dotted!r} is missing"
    if kind == "literal_error":
        return f"{here}: {dotted} = {first['input']!r} is unknown; allowed: {context['expected']}"
    return f"{here}: {dotted} = {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}"


def _fields(path: list[str]) -> list[str]:
    models: dict[str, type[BaseModel]] = {
        "candidates": CandidateSpec,
        "workloads": WorkloadSpec,
        "cells": CellSpec,
        "criteria": CriterionSpec,
        "faults": FaultSpec,
        "prefill": Prefill,
    }
    if path[0:1] == ["candidates"] and path[2:] == ["tracking"]:
        return sorted(TrackingSpec.model_fields)
    return sorted((models[path[0]] if path else Scenario).model_fields)


def _refuse(text: str, where: str, path: KeyPath, problem: str, allowed: list[str] | None = None) -> None:
    hint = f"; use one of {', '.join(allowed)}" if allowed else ""
    raise BadInput(f"{place(text, where, path)}: {problem}{hint}")
