"""What was measured of a cell, and how a criterion judged it: the inner types of `bench.results`."""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

Verdict = Literal["pass", "inconclusive", "fail"]
Interval = tuple[float, float]
INTEGRITY_COUNTS = (
    "attempted", "acknowledged", "stored", "lost", "duplicated", "corrupted", "unexpected", "recovered",
    "indeterminate", "stale",
)  # fmt: skip
CLOSED: Final = "closed"


class Frozen(BaseModel):
    """A value that can't be changed, and has no fields but its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Percentiles(Frozen):
    """Latency in milliseconds over ``n`` operations; a percentile is None where n is too small for it."""

    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None
    p999: float | None = None
    max: float | None = None
    n: int = 0


class Latency(Frozen):
    """Service time runs from the actual start, response time from the scheduled start."""

    service: Percentiles
    response: Percentiles


class Operation(Frozen):
    """One kind of operation within a cell."""

    ok: int
    failed: int
    unknown: int
    reads: bool
    latency_ms: Latency


class Integrity(Frozen):
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
    stale: int = Field(default=0, description="a read begun after the acknowledgement missed it, a later one found it")
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


class Probe(Frozen):
    """One kind of probe beside the load: how many were sent, how many answered well, and how soon."""

    ok: int
    n: int
    p95_ms: float | None


class Availability(Frozen):
    """Whether the tracking server could be used during the load.

    ``/health`` never touches the database, so a search stands beside it. ``share`` is that of the moments, four a
    second, at which both answered well.
    """

    share: float | None
    n: int
    health: Probe
    search: Probe


class Schedule(Frozen):
    """What became of an open loop's arrivals, over the measured time of all rounds. Rates are operations a second.

    ``lag_ms`` is the schedule lag: from when an operation was due to when it was sent. ``own_lag_ms`` is the part of it
    for which a writer was free all along, which the load generator itself added.
    """

    arrivals: Literal["constant", "poisson"]
    rate: float = Field(description="offered; the geometric mean of the rounds")
    share: float | None = Field(default=None, description="of the maximum throughput, where the rate comes from it")
    due: int
    late: int | None = Field(default=None, description="answered ok, but above the limit; None without a limit")
    skipped: int = Field(description="never sent: no writer was free before the limit, or before the load had to end")
    limit_ms: float | None = None
    lag_ms: Percentiles
    own_lag_ms: Percentiles


class Generator(Frozen):
    """What the load generator itself used: the worst trial of the cell."""

    cpu_share: float | None = None
    loop_lag_p99_ms: float | None = None
    saturated: bool = False
    lost_parts: int = Field(default=0, description="Locust workers that were lost during the load")
    reason: str | None = None


class MemoryUse(Frozen):
    """Resident memory of one party over ``n`` looks; ``mb_per_h`` is None where they were too few to tell."""

    first_mb: float
    last_mb: float
    peak_mb: float
    mb_per_h: float | None
    n: int


class TimelinePoint(Frozen):
    """One second of one round."""

    round: int
    second: int
    metrics: int
    lock_errors: int


class Cell(Frozen):
    """Candidate x driver x workload x concurrency, over all its rounds."""

    candidate: str
    store: str
    driver: Literal["direct", "http"]
    workload: str
    concurrency: int
    load: str = Field(default=CLOSED, description="closed, or what an open loop offers: 80 %, 150/s")
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
    memory: dict[str, MemoryUse] = Field(
        default_factory=dict, description="of harness, load, tracking server and database: the worst of the rounds"
    )
    schedule: Schedule | None = Field(default=None, description="of an open loop")
    warmup_s: float | None = Field(
        default=None, description="how long it took until the data was steady: the longest of the rounds"
    )
    unsteady: int = Field(default=0, description="rounds in which no steady part was found")
    within: dict[str, list[Interval | None]] = Field(
        default_factory=dict,
        description="95 % interval within each round, from its own samples alone (order statistics; Poisson counts)",
    )
    intervals: dict[str, Interval | None] = Field(description="95 % interval of the mean over rounds")
    per_round: dict[str, list[float | None]]
    timeline: list[TimelinePoint]

    @property
    def doors(self) -> list[Integrity]:
        """Each integrity check that was made: by SQL, over REST after an HTTP trial, and of the prefill."""
        checks = (self.integrity, self.integrity_rest, self.integrity_prefill)
        return [one for one in checks if one is not None]


class Criterion(Frozen):
    """One expression of the scenario, judged for one candidate on one cell."""

    candidate: str
    name: str
    expression: str
    field: str
    driver: str
    workload: str
    concurrency: int
    load: str = CLOSED
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
    fault: str = Field(default="", description="the fault of the cell that it was judged on, if any")
    noise: float | None = Field(
        default=None, description="standard deviation between rounds of the log of what was judged (a ratio's, if one)"
    )
    confidence: float | None = Field(default=None, description="of the interval that decided; None of counts")
    reason: str
    rounds_needed: int | None = Field(description="about how many rounds in all would decide an inconclusive one")
