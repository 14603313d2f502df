"""What a fault did to a store and what was left: the types of `bench.results` for cells in which something was broken.

Times are seconds on the clock of the load, which begins at 0.
"""

from typing import Final, Literal

from pydantic import Field

from bench.cell import Frozen, Integrity

STRUCTURE: Final = "the store's own check of its structure"
"""The invariant under which problems that it found are counted; it is missing where the check could not be made."""

FaultOutcome = Literal["kept", "lost", "broken", "unknown"]
"""What became of acknowledged writes.

kept: all are there, unchanged. lost: some are gone, which the store's settings allow this fault. broken: rows are
lost against what the settings promise, or changed, duplicated or added, or an invariant or the store's own structure
is damaged. unknown: it was not found out.
"""


class Event(Frozen):
    """Something that was done, or seen."""

    at_s: float
    what: str


class Moment(Frozen):
    """A quarter of a second of the load, from ``at_s`` on, by when operations ended."""

    at_s: float
    metrics: int
    errors: dict[str, int] = Field(default_factory=dict, description="by kind")


class FaultSeen(Frozen):
    """One fault in one trial. ``begin_s`` and ``end_s`` are None where it did not begin, or did not end."""

    name: str
    kind: str
    target: str
    says: str = Field(description="what was done, in words")
    begin_s: float | None = None
    end_s: float | None = None
    before: int = Field(default=0, description="operations that had ended ok when it began")
    first_ok_s: float | None = Field(
        default=None,
        description="from its end, when the mending begins, to the first operation that ended ok; None: there was none",
    )
    gone_s: float | None = Field(
        default=None, description="the longest time without an operation that ended ok, from the fault's beginning on"
    )
    reconnects: int = Field(default=0, description="connections that writers had to make anew")
    met: int = Field(default=0, description="lock errors and deadlocks that the fault's own sessions met")
    looks: int = Field(default=0, description="answers to somebody who looked for stale reads; 0: nobody could")
    examined: str | None = Field(default=None, description="the store's own check of its structure, and its answer")
    modelled: bool = Field(default=False, description="it happened to a model of a disk, not to the store's own")
    events: list[Event] = Field(default_factory=list)
    timeline: list[Moment] = Field(default_factory=list)


class FaultCell(Frozen):
    """Candidate x driver x workload x concurrency x fault, over all its rounds; times are the worst of them."""

    candidate: str
    store: str
    driver: Literal["direct", "http"]
    workload: str
    concurrency: int
    fault: str
    kind: str
    target: str
    says: str
    reference: bool
    modelled: bool = False
    rounds: int
    rounds_lost: int = Field(default=0, description="rounds that could not be measured")
    ops_ok: int
    ops_failed: int
    ops_unknown: int
    ops_retried: int
    errors: dict[str, int]
    lock_errors: int
    reconnects: int
    looks: int = 0
    integrity: Integrity
    integrity_rest: Integrity | None = None
    integrity_prefill: Integrity | None = Field(default=None, description="of the prefill, after all trials")
    first_ok_s: float | None
    gone_s: float | None
    may_lose: str | None = Field(description="what the settings allow this fault to lose; None: nothing")
    outcome: FaultOutcome
    reason: str
    seen: list[FaultSeen] = Field(description="one a round")

    @property
    def doors(self) -> list[Integrity]:
        """Each integrity check that was made."""
        checks = (self.integrity, self.integrity_rest, self.integrity_prefill)
        return [one for one in checks if one is not None]


class Untested(Frozen):
    """A fault that a candidate did not get. ``applies`` is false where it can't have it: SQLite has no server."""

    candidate: str
    fault: str
    applies: bool
    reason: str
