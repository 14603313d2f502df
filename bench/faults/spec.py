"""Faults as a scenario names them: what is done, to whom, when it begins and when it ends."""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal[
    "kill", "stop", "freeze",
    "latency", "throttle", "blackhole", "reset",
    "disconnect", "lock", "deadlocks", "connections", "read_only",
    "disk_full", "clock", "power",
]  # fmt: skip
Target = Literal["database", "tracking", "load"]
NETWORK: Final[tuple[Kind, ...]] = ("latency", "throttle", "blackhole", "reset")
SESSIONS: Final[tuple[Kind, ...]] = ("disconnect", "lock", "deadlocks", "connections", "read_only")

WHO: Final[dict[str, str]] = {
    "database": "database server",
    "tracking": "MLflow server",
    "load": "writers' process",
}
"""Targets, in words."""

TARGETS: Final[dict[Kind, tuple[Target, ...]]] = {
    "kill": ("database", "tracking", "load"),
    "stop": ("database", "tracking"),
    "freeze": ("database", "tracking"),
    **dict.fromkeys(NETWORK, ("database", "tracking")),
    **dict.fromkeys(SESSIONS, ("database",)),
    "disk_full": ("database",),
    "clock": ("load",),
    "power": ("database",),
}
"""Whom each kind can be done to. For a network fault: at whose door, as seen by the load."""


class FaultSpec(BaseModel):
    """One fault. Times in seconds.

    It begins ``at_s`` after the load, or with ``after`` once so many operations have ended ok; ``for_s`` later it is
    ended: a server is started again or let go on, a network mended. The load goes on until ``tail_s`` after the first
    operation that ended ok thereafter, and is ended ``limit_s`` after the fault's beginning at the latest.
    ``comes_back = false`` never ends it. ``delay_ms`` is what latency adds to each direction, ``bytes_per_s`` what
    throttle leaves of each, ``step_s`` how far the load's wall clock is set, and ``lose`` what a power cut
    takes: contents of files that were written and not synced, or entries of directories as well.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    kind: Kind
    target: Target = "database"
    at_s: float = Field(1.0, ge=0)
    after: int | None = Field(None, ge=1)
    for_s: float = Field(1.5, ge=0)
    tail_s: float = Field(1.0, ge=0)
    limit_s: float = Field(60.0, gt=0)
    comes_back: bool = True
    delay_ms: float = Field(50.0, gt=0)
    bytes_per_s: int = Field(20_000, ge=1)
    step_s: float = 3600.0
    lose: Literal["contents", "directory"] = "contents"
