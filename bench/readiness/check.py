"""What one look at a deployment found, and how to mend it. Part of results.json, and what ``--json`` prints."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bench.cell import Frozen

Outcome = Literal["pass", "warn", "fail", "unknown"]
_BADNESS: tuple[Outcome, ...] = ("pass", "warn", "unknown", "fail")


class Check(Frozen):
    """One question about the deployment; ``remedy`` is what to do, empty where all is well."""

    name: str = Field(description="for programs: tls, password, backup, …")
    title: str
    outcome: Outcome = Field(description="unknown: it could not be looked at, which `found` explains")
    found: str
    remedy: str = ""


class Readiness(Frozen):
    """All checks of one store."""

    url: str = Field(description="without password")
    store: str
    version: str
    checks: list[Check]
    seconds: dict[str, float] = Field(default_factory=dict, description="backup, restore, proof, …")

    @property
    def worst(self) -> Outcome:
        """The worst outcome of all; a check that could not be made is worse than a warning."""
        return max((check.outcome for check in self.checks), key=_BADNESS.index, default="unknown")
