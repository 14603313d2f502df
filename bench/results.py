"""results.json: the versioned record of a run that reports render and programs read.

The types here are the schema: ``results.schema.json`` beside this file is generated from them
(``python -m bench.results``) and a test keeps the two equal. Times are milliseconds, rates are per second,
shares are 0 to 1. ``None`` means "not measured", never zero.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.errors import BadInput

SCHEMA_VERSION: Final = 1
Verdict = Literal["pass", "inconclusive", "fail"]
Interval = tuple[float, float]
INTEGRITY_COUNTS = (
    "attempted", "acknowledged", "stored", "lost", "duplicated", "corrupted", "unexpected", "recovered",
    "indeterminate",
)  # fmt: skip


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Percentiles(_Frozen):
    """Latency in milliseconds over ``n`` operations; a percentile is None where n is too small for it."""

    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None
    p999: float | None = None
    max: float | None = None
    n: int = 0


class Latency(_Frozen):
    """Service time runs from the actual start, response time from the scheduled start."""

    service: Percentiles
    response: Percentiles


class Operation(_Frozen):
    """One kind of operation within a cell."""

    ok: int
    failed: int
    unknown: int
    reads: bool
    latency_ms: Latency


class Integrity(_Frozen):
    """Rows compared bit for bit with the ledger, summed over a cell's trials (see docs/methodology.md)."""

    checked: bool
    door: Literal["sql", "rest"] = "sql"
    reason: str | None = None
    attempted: int = 0
    acknowledged: int = 0
    stored: int = 0
    lost: int = 0
    duplicated: int = 0
    corrupted: int = 0
    unexpected: int = 0
    recovered: int = 0
    indeterminate: int = 0
    invariants: dict[str, int] = Field(default_factory=dict, description="violations of each invariant")
    examples: list[str] = Field(default_factory=list, description="the first rows found wrong, in words")

    @property
    def share(self) -> float | None:
        """1.0 where nothing is wrong, else the share of attempted rows that are right; None if unchecked."""
        if not self.checked:
            return None
        return max(0.0, 1.0 - self.wrong / max(1, self.attempted, self.wrong))

    @property
    def wrong(self) -> int:
        """Rows and invariants found wrong."""
        return self.lost + self.duplicated + self.corrupted + self.unexpected + sum(self.invariants.values())

    @property
    def broken(self) -> bool:
        """Whether data was lost, changed, duplicated or added."""
        return self.checked and self.wrong > 0


class Probe(_Frozen):
    """One kind of probe beside the load: how many were sent, how many answered well, and how soon."""

    ok: int
    n: int
    p95_ms: float | None


class Availability(_Frozen):
    """Whether the tracking server could be used during the load.

    ``/health`` never touches the database, so a search stands beside it. ``share`` is that of the moments, four a
    second, at which both answered well.
    """

    share: float | None
    n: int
    health: Probe
    search: Probe


class Generator(_Frozen):
    """What the load generator itself used: the worst trial of the cell."""

    cpu_share: float | None = None
    loop_lag_p99_ms: float | None = None
    saturated: bool = False
    lost_parts: int = Field(default=0, description="Locust workers that were lost during the load")
    reason: str | None = None


class TimelinePoint(_Frozen):
    """One second of one round."""

    round: int
    second: int
    metrics: int
    lock_errors: int


class Cell(_Frozen):
    """Candidate x driver x workload x concurrency, over all its rounds."""

    candidate: str
    store: str
    driver: Literal["direct", "http"]
    workload: str
    concurrency: int
    reference: bool
    rounds: int
    rounds_lost: int = Field(default=0, description="rounds that could not be measured")
    seconds: float
    ops_ok: int
    ops_failed: int
    ops_unknown: int
    ops_retried: int
    metrics_per_s: float | None
    ops_per_s: float | None
    success_rate: float | None
    first_attempt_rate: float | None = Field(default=None, description="share of operations whose first attempt was ok")
    latency_ms: Latency = Field(description="operations that write; all of them where a workload only reads")
    read_latency_ms: Latency | None = Field(description="operations that read, where the workload mixes both")
    operations: dict[str, Operation]
    errors: dict[str, int]
    lock_errors: int
    deadlocks: int
    server_errors: dict[str, int] | None = Field(
        default=None,
        description="database errors inside the tracking server, also those that its own retries hid",
    )
    referee: dict[str, float | None]
    facts: dict[str, float | None] = Field(
        default_factory=dict, description="of the candidate: durable, schema_missing, schema_current (0 or 1)"
    )
    availability: Availability | None = None
    phases_ms: dict[str, float] = Field(
        default_factory=dict, description="one experiment of `train`: create, params, steps, experiment"
    )
    runs_unfinished: int | None = Field(default=None, description="runs that `train` was to make and did not finish")
    integrity: Integrity
    integrity_rest: Integrity | None = Field(default=None, description="the same check, read over MLflow's REST API")
    integrity_prefill: Integrity | None = Field(default=None, description="of the prefill, after all trials")
    generator: Generator
    intervals: dict[str, Interval | None] = Field(description="95 % interval of the mean over rounds")
    per_round: dict[str, list[float | None]]
    timeline: list[TimelinePoint]

    @property
    def doors(self) -> list[Integrity]:
        """Each integrity check that was made: by SQL, over REST after an HTTP trial, and of the prefill."""
        checks = (self.integrity, self.integrity_rest, self.integrity_prefill)
        return [one for one in checks if one is not None]


class Criterion(_Frozen):
    """One expression of the scenario, judged for one candidate on one cell."""

    candidate: str
    name: str
    expression: str
    field: str
    driver: str
    workload: str
    concurrency: int
    comparison: str
    limit: float | None = Field(description="the number compared with; None where the reference has none")
    target: str = Field(description="the limit in words, with the reference where it comes from one")
    measured: float | None
    unit: str
    interval: Interval | None
    outcome: Verdict
    gating: bool
    table: str = Field(default="", description="which table of the report it belongs to; empty: the only one")
    published: str | None = Field(default=None, description="what a published report says of the same figure")
    reference: bool
    reason: str
    rounds_needed: int | None = Field(description="about how many rounds in all would decide an inconclusive one")


class Candidate(_Frozen):
    """A store and the settings under test."""

    name: str
    store: str
    reference: bool
    source: str
    server_version: str
    settings: dict[str, str]
    durable: bool | None
    durability: str
    prefill: str
    tracking: dict[str, str] = Field(default_factory=dict, description="the tracking server and its settings, if any")
    schema_revision: str | None = None
    schema_current: bool | None = Field(default=None, description="whether that is the revision which our MLflow wants")
    schema_missing: list[str] | None = Field(default=None, description="MLflow's tables that are not there")
    theirs: bool = Field(description="whether the database was given by the user")


class Run(_Frozen):
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
    loop: Literal["closed", "open"]
    interrupted: bool
    trials_planned: int
    trials_done: int


class Results(_Frozen):
    """Everything that a report shows."""

    schema_version: Literal[1] = SCHEMA_VERSION
    run: Run
    environment: dict[str, str]
    candidates: list[Candidate]
    cells: list[Cell]
    criteria: list[Criterion]
    verdicts: dict[str, Verdict]
    reasons: dict[str, str] = Field(description="the one reason for each candidate's verdict")
    verdict: Verdict
    exit_code: int
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
