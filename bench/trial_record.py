"""What one trial left: `TrialRecord` is trial.json, and holds all that judging needs (raw samples stay on disk)."""

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from bench.cell import (
    CLOSED,
    Availability,
    Generator,
    Integrity,
    Interval,
    MemoryUse,
    Operation,
    Percentiles,
    Schedule,
)
from bench.fault_cell import FaultSeen


@dataclass(frozen=True)
class CellKey:
    """Names a cell."""

    candidate: str
    driver: str
    workload: str
    concurrency: int
    load: str = CLOSED
    control: bool = False


class Second(BaseModel):
    """One second of a trial."""

    model_config = ConfigDict(frozen=True)
    metrics: int
    lock_errors: int


class TrialRecord(BaseModel):
    """One cell in one round. ``error`` says why a trial could not be measured; its figures are then empty."""

    model_config = ConfigDict(frozen=True)

    number: int
    round: int
    candidate: str
    store: str
    driver: str
    workload: str
    concurrency: int
    load: str = CLOSED
    control: bool = False
    started: str
    seconds: float = 0.0
    error: str | None = None
    ops_ok: int = 0
    ops_failed: int = 0
    ops_unknown: int = 0
    ops_retried: int = 0
    metrics_per_s: float | None = None
    ops_per_s: float | None = None
    write_service: Percentiles = Percentiles()
    write_response: Percentiles = Percentiles()
    read_service: Percentiles = Percentiles()
    read_response: Percentiles = Percentiles()
    operations: dict[str, Operation] = {}
    errors: dict[str, int] = {}
    lock_errors: int = 0
    deadlocks: int = 0
    first_attempts_ok: int = 0
    server_errors: dict[str, int] | None = None
    referee: dict[str, float | None] = {}
    availability: Availability | None = None
    phases_ms: dict[str, float] = {}
    runs_unfinished: int | None = None
    integrity_rest: Integrity | None = None
    integrity_prefill: Integrity | None = None
    integrity: Integrity = Integrity(checked=False, reason="the trial did not get that far")
    generator: Generator = Generator()
    schedule: Schedule | None = None
    warmup_s: float | None = None
    steady: bool = True
    within: dict[str, Interval | None] = {}
    steal_share: float | None = None
    others_share: float | None = None
    clock_step_ms: float = 0.0
    timeline: list[Second] = []
    memory: dict[str, MemoryUse] = {}
    fault: FaultSeen | None = None

    @property
    def place(self) -> str:
        """Which trial this is, for people."""
        level = f"{self.driver} {self.workload} at {self.concurrency}"
        if self.load != CLOSED:
            level += f", {self.load}"
        if self.fault is not None:
            level += f", {self.fault.name}"
        return f"{self.candidate}, {level}, round {self.round + 1}"

    @property
    def cell(self) -> CellKey:
        """The cell that this is a trial of."""
        return CellKey(self.candidate, self.driver, self.workload, self.concurrency, self.load, self.control)
