"""Scenarios: TOML files, validated once into frozen objects; what is wrong is said in one line with its place."""

import re
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.errors import BadInput
from bench.judge.criteria import parse
from bench.stores import NAMES
from bench.workload import MAX_BATCH_METRICS, MAX_BATCH_PARAMS, MAX_BATCH_TAGS, Workload

FOLDER = Path(__file__).resolve().parent.parent / "scenarios"
MAX_WRITERS = 1000
StoreName = Literal["sqlite", "postgresql", "timescaledb", "mysql", "mariadb"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Prefill(_Frozen):
    """How full a store is before the trials: ``metrics`` rows spread over ``runs`` runs."""

    runs: int = Field(0, ge=0, le=60_000)
    metrics: int = Field(0, ge=0)


class CandidateSpec(_Frozen):
    """A store and the settings under test: of its server (ours only) and of each session."""

    store: StoreName
    server: dict[str, str] = {}
    session: dict[str, str] = {}


class WorkloadSpec(_Frozen):
    """One workload; see `bench.workload.Workload` for the meaning of each key."""

    kind: Literal["log_metric", "log_batch", "train", "read", "mixed", "bulk"]
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

    def workload(self, name: str) -> Workload:
        """The workload under its name in the scenario."""
        return Workload(name, **self.model_dump())


class CellSpec(_Frozen):
    """A workload at some concurrency levels; rounds and times may differ from the scenario's."""

    workload: str
    concurrency: list[int] = Field(min_length=1)
    rounds: int | None = Field(None, ge=1)
    warmup_s: float | None = Field(None, ge=0)
    duration_s: float | None = Field(None, gt=0)
    count: int | None = Field(None, ge=1)
    min_writes: int = Field(0, ge=0)


class CriterionSpec(_Frozen):
    """One expression over the results of some cells; those of all workloads, levels or stores if none is named."""

    name: str
    expression: str
    workload: str | None = None
    concurrency: int | None = None
    stores: list[StoreName] | None = None
    gating: bool = True


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
    if scenario.reference is not None and scenario.reference not in scenario.candidates:
        _refuse(text, where, "reference", f"unknown candidate {scenario.reference!r}", sorted(scenario.candidates))
    for cell in scenario.cells:
        if cell.workload not in scenario.workloads:
            _refuse(text, where, "workload", f"unknown workload {cell.workload!r}", sorted(scenario.workloads))
        for level in cell.concurrency:
            if not 1 <= level <= MAX_WRITERS:
                _refuse(text, where, "concurrency", f"concurrency {level} is not between 1 and {MAX_WRITERS}")
    for name, work in scenario.workloads.items():
        _check_workload(name, work, scenario, text, where)
    for criterion in scenario.criteria:
        try:
            expression = parse(criterion.expression)
        except BadInput as error:
            raise BadInput(
                f"{_place(text, where, criterion.expression)}: criterion {criterion.name!r}: {error}"
            ) from error
        if expression.uses_reference and scenario.reference is None:
            _refuse(text, where, criterion.expression, f"criterion {criterion.name!r} needs a reference; name one")
        if criterion.workload is not None and criterion.workload not in scenario.workloads:
            _refuse(
                text, where, criterion.workload, f"unknown workload {criterion.workload!r}", sorted(scenario.workloads)
            )
        if not cells_of(criterion, scenario):
            _refuse(text, where, criterion.expression, f"criterion {criterion.name!r} fits no cell of this scenario")


def cells_of(criterion: CriterionSpec, scenario: Scenario) -> list[tuple[str, int]]:
    """(workload, concurrency) of the cells that a criterion is judged on."""
    return [
        (cell.workload, level)
        for cell in scenario.cells
        for level in cell.concurrency
        if criterion.workload in (None, cell.workload) and criterion.concurrency in (None, level)
    ]


def _check_workload(name: str, work: WorkloadSpec, scenario: Scenario, text: str, where: str) -> None:
    here = f"workload {name!r}"
    if work.kind == "log_batch" and not 1 <= work.metrics + work.params + work.tags <= MAX_BATCH_METRICS:
        _refuse(text, where, name, f"{here}: a batch holds 1 to {MAX_BATCH_METRICS} items, as MLflow's own limit says")
    if work.kind in ("read", "mixed") and scenario.prefill.runs == 0:
        _refuse(text, where, name, f"{here} reads prefilled runs; set runs and metrics under [prefill]")
    if (work.kind == "mixed") != (work.read_share > 0):
        _refuse(text, where, name, f"{here}: read_share above 0 belongs to kind mixed, and mixed needs it")
    if work.kind not in {"read", "log_batch"} and work.metrics == 0:
        _refuse(text, where, name, f"{here}: metrics must be at least 1")
    if work.kind in ("log_metric", "bulk") and (work.params or work.tags):
        _refuse(text, where, name, f"{here}: params and tags belong to log_batch, mixed and train")
    if work.fresh_keys and work.metrics == 0:
        _refuse(text, where, name, f"{here}: fresh_keys needs metrics")


def _explain(text: str, where: str, error: ValidationError) -> str:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    kind, context = first["type"], first.get("ctx", {})
    place = _place(text, where, path[-1])
    dotted = ".".join(path)
    if kind == "extra_forbidden":
        return f"{place}: unknown key {dotted!r}; allowed here: {', '.join(_fields(path[:-1]))}"
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
    return sorted((models[path[0]] if path else Scenario).model_fields)


def _refuse(text: str, where: str, word: str, problem: str, allowed: list[str] | None = None) -> None:
    hint = f"; use one of {', '.join(allowed)}" if allowed else ""
    raise BadInput(f"{_place(text, where, word)}: {problem}{hint}")


def _place(text: str, where: str, word: str) -> str:
    """``file:line`` of the first line that holds ``word``, else the file alone."""
    for number, line in enumerate(text.splitlines(), start=1):
        if re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", line):
            return f"{where}:{number}"
    return where


def with_stores(scenario: Scenario, stores: Collection[str]) -> Scenario:
    """The scenario reduced to the stores that the user named (``--store``); candidates are made where none fits.

    The reference stays only if the user named its store too, or if the scenario says ``keep_reference``.
    """
    kept = {name: spec for name, spec in scenario.candidates.items() if spec.store in stores}
    for store in stores:
        if store not in NAMES:
            raise BadInput(f"--store {store}: unknown store; use one of {', '.join(NAMES)}")
        if not any(spec.store == store for spec in kept.values()):
            kept[store] = CandidateSpec.model_validate({"store": store})
    reference = scenario.reference if scenario.reference in kept else None
    if reference is None and scenario.keep_reference and scenario.reference is not None:
        kept = {scenario.reference: scenario.candidates[scenario.reference], **kept}
        reference = scenario.reference
    criteria = [
        item for item in scenario.criteria if reference is not None or not parse(item.expression).uses_reference
    ]
    return scenario.model_copy(update={"candidates": kept, "reference": reference, "criteria": criteria})
