"""Scenarios: TOML files, validated once into frozen objects; what is wrong is said in one line with its place."""

import re
import tomllib
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.errors import BadInput
from bench.judge.criteria import parse
from bench.stores import NAMES
from bench.workload import MAX_BATCH_METRICS, MAX_BATCH_PARAMS, MAX_BATCH_TAGS, Workload

FOLDER = Path(__file__).resolve().parent.parent / "scenarios"
MAX_WRITERS = 1000
_Path = tuple[str | int, ...]
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


class CriterionSpec(_Frozen):
    """One expression over results: of all drivers, workloads, levels and stores of which it names none.

    ``table`` says in which of the report's tables it stands, ``published`` what a published report says there.
    """

    name: str
    expression: str
    driver: Driver | None = None
    workload: str | None = None
    concurrency: int | None = None
    stores: list[StoreName] | None = None
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
    prefill: Prefill = Prefill(runs=0, metrics=0)
    candidates: dict[str, CandidateSpec] = Field(min_length=1)
    workloads: dict[str, WorkloadSpec] = Field(min_length=1)
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
    _check_cells(scenario, refuse)
    for name, work in scenario.workloads.items():
        if problem := _misfit(work, scenario):
            refuse(("workloads", name), f"workload {name!r}: {problem}")
    if (
        bool(scenario.prefill.metrics) != bool(scenario.prefill.runs)
        or scenario.prefill.metrics < scenario.prefill.runs
    ):
        refuse(("prefill", "metrics"), "metrics belong to runs, at least one to each; set runs and metrics to fit")
    for number, criterion in enumerate(scenario.criteria):
        if criterion.workload is not None and criterion.workload not in scenario.workloads:
            problem = f"criterion {criterion.name!r}: unknown workload {criterion.workload!r}"
            refuse(("criteria", number, "workload"), problem, sorted(scenario.workloads))
        _check_criterion(criterion, scenario, partial(refuse, ("criteria", number, "expression")))


def _check_cells(scenario: Scenario, refuse: Callable[..., None]) -> None:
    for number, cell in enumerate(scenario.cells):
        here = ("cells", number)
        if cell.workload not in scenario.workloads:
            refuse((*here, "workload"), f"unknown workload {cell.workload!r}", sorted(scenario.workloads))
        elif problem := misplaced(cell, scenario.workloads[cell.workload]):
            refuse((*here, "workload"), f"workload {cell.workload!r}: {problem}")
        for level in cell.concurrency:
            if not 1 <= level <= MAX_WRITERS:
                refuse((*here, "concurrency"), f"concurrency {level} is not between 1 and {MAX_WRITERS}")


def _check_criterion(criterion: CriterionSpec, scenario: Scenario, refuse: Callable[..., None]) -> None:
    here = f"criterion {criterion.name!r}"
    try:
        expression = parse(criterion.expression)
    except BadInput as error:
        refuse(f"{here}: {error}")
        return
    if expression.uses_reference and scenario.reference is None:
        refuse(f"{here} needs a reference; name one")
    if not cells_of(criterion, scenario):
        refuse(f"{here} fits no cell of this scenario")


def cells_of(criterion: CriterionSpec, scenario: Scenario) -> list[tuple[Driver, str, int]]:
    """(driver, workload, concurrency) of the cells that a criterion is judged on."""
    return [
        (cell.driver, cell.workload, level)
        for cell in scenario.cells
        for level in cell.concurrency
        if criterion.driver in (None, cell.driver)
        and criterion.workload in (None, cell.workload)
        and criterion.concurrency in (None, level)
    ]


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
    place = _place(text, where, path)
    dotted = ".".join(map(str, path))
    if kind == "extra_forbidden":
        return f"{place}: unknown key {dotted!r}; allowed here: {', '.join(_fields([str(part) for part in path[:-1]]))}"
    if kind == "missing":
        return f"{place}: key {dotted!r} is missing"
    if kind == "literal_error":
        return f"{place}: {dotted} = {first['input']!r} is unknown; allowed: {context['expected']}"
    return f"{place}: {dotted} = {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}"


def _fields(path: list[str]) -> list[str]:
    models: dict[str, type[BaseModel]] = {
        "candidates": CandidateSpec,
        "workloads": WorkloadSpec,
        "cells": CellSpec,
        "criteria": CriterionSpec,
        "prefill": Prefill,
    }
    if path[0:1] == ["candidates"] and path[2:] == ["tracking"]:
        return sorted(TrackingSpec.model_fields)
    return sorted((models[path[0]] if path else Scenario).model_fields)


def _refuse(text: str, where: str, path: _Path, problem: str, allowed: list[str] | None = None) -> None:
    hint = f"; use one of {', '.join(allowed)}" if allowed else ""
    raise BadInput(f"{_place(text, where, path)}: {problem}{hint}")


_HEADER = re.compile(r"\s*\[(\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?")
_KEY = re.compile(r"\s*([\w.\-\"']+)\s*=")


def _place(text: str, where: str, path: _Path) -> str:
    """``file:line`` of the deepest part of a key's path that has a line of its own, else the file alone."""
    wanted = [str(part) for part in path]
    tables: dict[str, int] = {}
    table: list[str] = []
    best, line_of_best = 0, 0
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.fullmatch(line):
            table = [part.strip(" \"'") for part in header[2].split(".")]
            if header[1]:  # an array of tables: its elements are counted
                tables[header[2]] = tables.get(header[2], -1) + 1
                table.append(str(tables[header[2]]))
            here = table
        elif key := _KEY.match(line):
            here = [*table, *(part.strip("\"'") for part in key[1].split("."))]
        else:
            continue
        if len(here) > best and here == wanted[: len(here)]:
            best, line_of_best = len(here), number
    return f"{where}:{line_of_best}" if best else where


def with_stores(scenario: Scenario, stores: Collection[str]) -> Scenario:
    """The scenario reduced to the stores that the user named (``--store``); candidates are made where none fits.

    The reference stays only if the user named its store too, or if the scenario says ``keep_reference``.
    """
    kept = {name: spec for name, spec in scenario.candidates.items() if spec.store in stores}
    for store in stores:
        if store not in NAMES:
            raise BadInput(f"--store {store}: unknown store; use one of {', '.join(NAMES)}")
        if not any(spec.store == store for spec in kept.values()):
            name = store if store not in scenario.candidates else f"{store}-store"
            kept[name] = CandidateSpec.model_validate({"store": store})
    reference = scenario.reference if scenario.reference in kept else None
    if reference is None and scenario.keep_reference and scenario.reference is not None:
        kept = {scenario.reference: scenario.candidates[scenario.reference], **kept}
        reference = scenario.reference
    criteria = [
        item for item in scenario.criteria if reference is not None or not parse(item.expression).uses_reference
    ]
    return scenario.model_copy(update={"candidates": kept, "reference": reference, "criteria": criteria})


def without_direct(scenario: Scenario, stores: Collection[str]) -> tuple[Scenario, list[str]]:
    """The scenario without direct cells, and what was left out in words, where these stores can't be reached by SQL.

    Raises:
        BadInput: nothing is left.
    """
    if not any(spec.store in stores for spec in scenario.candidates.values()):
        return scenario, []
    cells = [cell for cell in scenario.cells if cell.driver == "http"]
    if not cells:
        raise BadInput(
            "this scenario has no HTTP cell, so a tracking server alone can't be measured; add --store NAME=URL"
        )
    left_out = [f"direct {cell.workload}" for cell in scenario.cells if cell.driver == "direct"]
    reduced = scenario.model_copy(update={"cells": cells})
    criteria = [one for one in scenario.criteria if cells_of(one, reduced)]
    return reduced.model_copy(update={"criteria": criteria}), left_out
