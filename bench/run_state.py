"""What a run is asked for, who is told how it goes, and what it has so far."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bench.decision_request import Wanted
from bench.fault_cell import Untested
from bench.judge.looks import Look
from bench.plan import Group, Overrides, Trial
from bench.results import Candidate, Results
from bench.scenario import LoadedScenario
from bench.site import Site
from bench.stores.url import StoreUrl
from bench.trial_record import TrialRecord

if TYPE_CHECKING:  # it knows all that moves stores, which few runs do
    from bench.decision import Decision


class Watcher(Protocol):
    """Who is told how the run goes."""

    def say(self, text: str) -> None:
        """A line about what is being prepared."""

    def trial_begins(self, trial: Trial, done: int, planned: int) -> None:
        """A trial begins."""

    def trial_ended(self, record: TrialRecord) -> None:
        """A trial has its record."""


@dataclass(frozen=True)
class Request:
    """What the user asked for."""

    scenario: LoadedScenario
    overrides: Overrides
    urls: dict[str, StoreUrl]
    seed: int
    out: Path
    keep: bool
    notes: tuple[str, ...] = ()
    budget_s: float | None = None  # go on until all is decided, for as long as this; None: the rounds of the plan only
    baseline: Results | None = None
    sites: dict[str, Site] = field(default_factory=dict)  # tracking servers of the user's, by store
    move: Wanted | None = None  # a store that is moved first
    target: str = ""  # the candidate that it is moved to


@dataclass
class State:
    """What a run has so far; judged as it stands if the run is interrupted."""

    began: float = field(default_factory=time.monotonic)
    planned: int = 0
    records: list[TrialRecord] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    speeds: list[tuple[float, float]] = field(default_factory=list)  # of the machine itself, before each round
    looks: dict[Group, tuple[Look, ...]] = field(default_factory=dict)  # of a run that goes on until all is decided
    notes: list[str] = field(default_factory=list)
    untested: list[Untested] = field(default_factory=list)
    decision: "Decision | None" = None
