"""results.json: the versioned record of a run that reports render and programs read.

The types here are the schema: ``results.schema.json`` beside this file is generated from them
(``python -m bench.results``) and a test keeps the two equal. Times are milliseconds, rates are per second,
shares are 0 to 1. ``None`` means "not measured", never zero.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, ValidationError

from bench.cell import CLOSED, Cell, Criterion, Frozen, Interval, Verdict
from bench.decision_record import Act, Move, Step
from bench.errors import BadInput
from bench.fault_cell import FaultCell, Untested

SCHEMA_VERSION: Final = 1
Change = Literal["better", "worse", "same", "unknown"]


class Comparison(Frozen):
    """One figure of one cell against the same figure elsewhere: the reference's, or another run's.

    ``ratio`` is ours divided by theirs, ``interval`` its interval at ``confidence``, ``p`` the probability of so large
    a difference by chance, corrected by Holm's method over all comparisons made together.
    """

    candidate: str
    driver: str
    workload: str
    concurrency: int
    load: str = CLOSED
    field: str
    unit: str
    ours: float | None
    theirs: float | None
    rounds: tuple[int, int] = Field(description="ours, theirs")
    ratio: float | None
    interval: Interval | None
    confidence: float
    p: float | None
    outcome: Change
    reason: str


class Control(Frozen):
    """The A/A control: one cell of one candidate measured twice in each round. Any difference is the harness's own."""

    candidate: str
    driver: str
    workload: str
    concurrency: int
    load: str = CLOSED
    comparisons: list[Comparison] = Field(description="the second against the first")


class Capacity(Frozen):
    """The highest rate at which a cell met its objective. Rates are operations a second."""

    candidate: str
    driver: str
    workload: str
    concurrency: int
    objective: str
    holds: float | None = Field(
        description="the highest offered rate that met it, with all lower ones; None: not even one"
    )
    holds_load: str | None
    breaks: float | None = Field(description="the lowest offered rate that did not; None: all that were tried did")
    breaks_load: str | None
    maximum: float | None = Field(description="throughput of the closed loop")
    reason: str


class Mark(Frozen):
    """Something a reader must know before believing a figure."""

    kind: Literal["generator", "noisy", "control", "rounds", "clock", "durability", "versions", "unsteady", "schedule"]
    text: str


class Machine(Frozen):
    """The machine while the trials ran, measured the same way in every run, so that two runs can be told apart.

    ``spin_ms`` and ``sync_ms`` are the time that a fixed piece of arithmetic and a small synced write took, one value a
    round, between the trials.
    """

    spin_ms: list[float] = Field(default_factory=list)
    sync_ms: list[float] = Field(default_factory=list)
    steal_share: float | None = Field(
        default=None, description="of the CPU time, taken by a hypervisor: the worst trial"
    )
    others_share: float | None = Field(default=None, description="of the CPU time, used by others: the median trial")
    clock_step_ms: float = Field(
        default=0.0, description="the furthest that the wall clock moved against the monotonic"
    )


class Candidate(Frozen):
    """A store and the settings under test."""

    name: str
    store: str
    reference: bool
    source: str
    server_version: str
    settings: dict[str, str]
    durable: bool | None
    durability: str
    may_lose_crash: str | None = Field(
        default=None,
        description="what the settings allow a kill -9 of the database to lose; None: nothing, if durable is known",
    )
    may_lose_power: str | None = Field(
        default=None,
        description="what they allow the end of the machine to lose; None: nothing, if durable is known",
    )
    prefill: str
    tracking: dict[str, str] = Field(default_factory=dict, description="the tracking server and its settings, if any")
    schema_revision: str | None = None
    schema_current: bool | None = Field(default=None, description="whether that is the revision which our MLflow wants")
    schema_missing: list[str] | None = Field(default=None, description="MLflow's tables that are not there")
    theirs: bool = Field(description="whether the database was given by the user")


class Run(Frozen):
    """Which run this is."""

    id: str
    scenario: str
    title: str
    started: str
    ended: str
    seconds: float
    seed: int
    rounds: int
    command: str
    mlflow_version: str
    authentication: str
    network: str
    loop: Literal["closed", "open", "closed and open"]
    interrupted: bool
    trials_planned: int
    trials_done: int
    looks: list[int] = Field(default_factory=list, description="rounds after which --until-decided looked, at most")


class Regression(Frozen):
    """One run against another: what `trackbench compare` says. Ratios are the candidate's figures by the base's."""

    base: str = Field(description="the base run's id")
    candidate: str = Field(description="the candidate run's id")
    unlike: dict[str, tuple[str, str]] = Field(
        default_factory=dict, description="conditions that differ: what each run had"
    )
    floor: float = Field(
        description="how far the machine itself moved between the runs, as a log ratio: less is not told"
    )
    margin: float = Field(description="how far from 1 a ratio may lie and still count as the same")
    comparisons: list[Comparison]
    missing: list[str] = Field(default_factory=list, description="cells that only one of the runs has")
    outcome: Change
    reason: str


class Results(Frozen):
    """Everything that a report shows."""

    schema_version: Literal[1] = SCHEMA_VERSION
    run: Run
    environment: dict[str, str]
    candidates: list[Candidate]
    cells: list[Cell]
    faults: list[FaultCell] = Field(default_factory=list, description="cells in which something was broken on purpose")
    untested: list[Untested] = Field(default_factory=list, description="faults that a candidate did not get, and why")
    criteria: list[Criterion]
    verdicts: dict[str, Verdict]
    reasons: dict[str, str] = Field(description="the one reason for each candidate's verdict")
    verdict: Verdict
    exit_code: int
    comparisons: list[Comparison] = Field(default_factory=list, description="with the reference, paired in the rounds")
    control: Control | None = None
    capacities: list[Capacity] = Field(default_factory=list)
    move: Move | None = Field(default=None, description="None: moving a store was no part of this run")
    checklist: list[Step] = Field(default_factory=list, description="of the move, in the order of its steps")
    cutover: list[Act] = Field(default_factory=list, description="how to carry the move out, for this very case")
    rollback: list[Act] = Field(default_factory=list, description="how to go back to the source after the cut-over")
    baseline: "Regression | None" = None
    marks: list[Mark] = Field(default_factory=list)
    machine: Machine = Machine()
    conditions: dict[str, str] = Field(
        default_factory=dict, description="all that must be alike before another run may be compared with this one"
    )
    notes: list[str] = Field(description="limits and honesty marks that a reader must know")

    def write(self, folder: Path) -> Path:
        """Write ``results.json`` into ``folder`` in one step and return its path."""
        path = folder / "results.json"
        draft = path.with_suffix(".tmp")
        draft.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
        return draft.replace(path)


def read(folder: Path) -> Results:
    """Read a run's results.

    Raises:
        BadInput: the file is missing, truncated, from another program or of another schema version.
    """
    path = folder / "results.json" if folder.is_dir() else folder
    try:
        raw: Mapping[str, object] = json.loads(path.read_text(encoding="utf-8"))
        version = raw.get("schema_version") if isinstance(raw, dict) else None
        if version != SCHEMA_VERSION:
            raise BadInput(f"{path}: schema version {version!r} is not {SCHEMA_VERSION}; run the scenario again")
        return Results.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; name a run's folder under results/") from error
    except (ValueError, RecursionError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        where = ".".join(map(str, first["loc"])) + ": " + first["msg"] if first else str(error)
        raise BadInput(f"{path}: not a Trackbench results.json ({where}); run the scenario again") from error


def schema() -> str:
    """The JSON Schema of results.json as text."""
    return json.dumps(Results.model_json_schema(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    (Path(__file__).parent / "results.schema.json").write_text(schema(), encoding="utf-8")
