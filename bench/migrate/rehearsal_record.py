"""What an upgrade's rehearsal was and came to: what ``--json`` prints."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bench.cell import Frozen
from bench.errors import ExitCode
from bench.migrate.proof import Proof

Outcome = Literal["recovered", "blocked", "differs", "missed"]
_BADNESS: tuple[Outcome, ...] = ("recovered", "missed", "blocked", "differs")


class Step(Frozen):
    """How long the version table showed one revision while the upgrade ran."""

    revision: str | None = Field(description="None: it showed none")
    seconds: float


class Moment(Frozen):
    """When an upgrade is killed: so long after the version table first shows a revision."""

    revision: str | None
    after_s: float


class Left(Frozen):
    """What a killed upgrade left in the database."""

    revision: str | None = Field(description="as the version table has it")
    new_tables: list[str] = Field(default_factory=list, description="already there, of those that the upgrade makes")
    gone_tables: list[str] = Field(default_factory=list, description="no longer there, and not to go")
    stray_tables: list[str] = Field(default_factory=list, description="neither of the old schema nor of the new")


class Kill(Frozen):
    """One kill -9 of an upgrade on a copy of its own, and a second upgrade after it."""

    moment: Moment
    at_s: float | None = Field(description="after the upgrade began; None: it had ended before")
    during: str | None = Field(default=None, description="the migration under way, by its revision")
    settled_s: float = Field(
        default=0.0, description="until the database had given up, or ended, the statement under way"
    )
    left: Left | None = None
    outcome: Outcome = Field(
        description="recovered: the second upgrade made the store that an undisturbed one makes; blocked: it failed; "
        "differs: it ended well and the store is another; missed: the upgrade ended before it could be killed"
    )
    again_s: float | None = Field(default=None, description="the second upgrade's time")
    words: str = Field(default="", description="the last ones of a second upgrade that failed")
    proof: Proof | None = Field(default=None, description="the undisturbed copy against this one, where they differ")


class Rehearsal(Frozen):
    """An upgrade tried on copies of a store."""

    url: str = Field(description="without password")
    store: str
    family: str
    rehearsed_on: str = Field(description="the database that the copies were in, with its version")
    mlflow: str = Field(description="the version that upgrades")
    revision: str | None = Field(description="the store's")
    head: str = Field(description="what it is upgraded to")
    migrations: int = Field(description="on the way, as far as that MLflow knows the store's revision")
    rows: int
    seconds: dict[str, float] = Field(default_factory=dict, description="copy, upgrade")
    steps: list[Step] = Field(default_factory=list)
    failure: str | None = Field(default=None, description="the last words of an undisturbed upgrade that failed")
    kills: list[Kill] = Field(default_factory=list)
    unstable: list[str] = Field(
        default_factory=list, description="columns that two undisturbed upgrades fill otherwise"
    )
    notes: list[str] = Field(default_factory=list)

    @property
    def outcome(self) -> Literal["failed"] | Outcome:
        """Of the worst kill, or that the upgrade fails by itself."""
        if self.failure is not None:
            return "failed"
        return max((kill.outcome for kill in self.kills), key=_BADNESS.index, default="missed")

    @property
    def exit_code(self) -> ExitCode:
        """0 recoverable, 1 not, 3 it could not be told."""
        codes: dict[str, ExitCode] = {"recovered": ExitCode.PASS, "missed": ExitCode.INCONCLUSIVE}
        return codes.get(self.outcome, ExitCode.FAIL)
