"""Scenarios: TOML files, validated once into frozen objects; what is wrong is said in one line with its place."""

import tomllib
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.arrivals import Kind
from bench.cell import CLOSED
from bench.errors import BadInput
from bench.faults.spec import FaultSpec
from bench.scenario_rules import check
from bench.toml_lines import KeyPath, place
from bench.workload import MAX_BATCH_PARAMS, MAX_BATCH_TAGS, Workload

FOLDER = Path(__file__).resolve().parent.parent / "scenarios"
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
    table: Literal["", "published", "decides", "ready"] = ""
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
    check(scenario, partial(_refuse, text, where))
    return scenario


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
