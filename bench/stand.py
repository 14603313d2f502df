"""A stand: one candidate ready for trials, whatever door leads to its rows.

`bench.stand_sql.SqlStand` reaches the store itself, `bench.stand_rest.RestStand` only a tracking server of the
user's. `bench.stands` brings them up.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from bench.identity import TrialKey
from bench.integrity import Expected, Tally
from bench.job import ReadTargets
from bench.scenario import CandidateSpec, Prefill
from bench.servers import RunningServer
from bench.servers.tracking import RunningTracking
from bench.site import Site
from bench.stores.base import Counters
from bench.stores.tracking import RunRow
from bench.stores.url import StoreUrl

Echo = Callable[[str], None]
Door = Literal["sql", "rest"]
MoveIn = Callable[[StoreUrl, RunningServer | None], Awaitable[None]]


@dataclass(frozen=True)
class Access:
    """How a candidate is reached: the user's own database or tracking server, else private ones of ours.

    ``http`` says that trials go through a tracking server, ``traces`` that some log traces; ``keep`` that our rows
    stay in a database of the user's; ``small_disk`` that a server of ours gets a disk that can be filled. ``move_in``
    puts a store into the database before it is looked at; it is told the database's server too, if that is ours.
    """

    url: StoreUrl | None = None
    site: Site | None = None
    http: bool = False
    traces: bool = False
    keep: bool = False
    small_disk: bool = False
    move_in: MoveIn | None = None


@dataclass(frozen=True)
class Facts:
    """What is known of a candidate; ``None`` where it can't be known.

    ``kind`` is the store's name, ``source`` where its server comes from, ``connections`` how many it admits. ``crash``
    and ``power`` say what its settings allow either to lose, as `bench.stores.base.Durability` does: None means
    nothing, if ``durable`` is known.
    """

    kind: str
    source: str
    version: str
    settings: dict[str, str]
    durable: bool | None
    durability: str
    connections: int | None
    schema_revision: str | None
    schema_current: bool | None
    schema_missing: tuple[str, ...] | None
    crash: str | None = None
    power: str | None = None


@dataclass
class Stand(ABC):
    """A candidate during a run. Its methods raise the errors of its driver, or of httpx."""

    door: ClassVar[Door]  # through which it reads rows back

    name: str
    spec: CandidateSpec
    facts: Facts
    theirs: bool
    keep: bool  # whether our rows stay with the user
    artifact_root: str
    url: StoreUrl | None = None  # of the store, if we can reach it
    server: RunningTracking | None = None  # a tracking server of ours
    site: Site | None = None  # where HTTP users go
    site_facts: dict[str, str] = field(default_factory=dict)
    filled: Expected | None = None
    reads: ReadTargets | None = None
    ours: dict[int, str] = field(default_factory=dict)  # experiments that we made: their runs' prefix

    @abstractmethod
    async def create_experiment(self, name: str, prefix: str) -> int:
        """An experiment for runs with this prefix, remembered so that it is removed again."""

    @abstractmethod
    async def create_run(self, run: RunRow) -> str:
        """A run that writers will fill; its id, which a tracking server may choose."""

    @abstractmethod
    async def fill(self, wanted: Prefill, key: TrialKey, name: str) -> None:
        """Prefill in an experiment of this name, before the first trial."""

    @abstractmethod
    async def settle(self) -> None:
        """Bring a server of ours to the same state before each trial."""

    @abstractmethod
    async def counters(self) -> Counters:
        """The database's own counters, empty where we can't ask it."""

    @abstractmethod
    async def gauges(self) -> dict[str, float]:
        """Numbers that rise and fall, empty where we can't ask."""

    @abstractmethod
    async def finish_writing(self, expected: Expected, in_doubt: bool) -> None:
        """Before the read-back: wait for commits that may be under way (``in_doubt``), end what bulk writers left."""

    @abstractmethod
    async def read_back(self, expected: Expected) -> Tally:
        """Compare what is stored with the ledgers, through this stand's own door."""

    @abstractmethod
    async def remove(self, experiments: list[int]) -> None:
        """Remove experiments that we made, with all they hold."""

    @abstractmethod
    async def renew(self) -> None:
        """Log in again: an error or a cancelled query may have left the connection in any state."""

    async def remove_trials(self) -> None:
        """Remove what trials made, and leave the prefill."""
        filled = None if self.filled is None else self.filled.experiment_id
        await self.remove([one for one in self.ours if one != filled])

    async def remove_all(self) -> None:
        """Remove everything that we made."""
        await self.remove(list(self.ours))


def one_line(error: BaseException) -> str:
    """An exception's text on one line, for messages."""
    return " ".join(str(error).split())[:200] or type(error).__name__
