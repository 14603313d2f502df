"""MLflow's commits on a disk in memory, and all that happened to the disk meanwhile."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench import identity
from bench.faults.power.disk import Disk, Event
from bench.faults.power.session import DATABASE, DiskStore
from bench.faults.power.vfs import DiskVfs
from bench.identity import EPOCH_MS, TrialKey
from bench.integrity import Expected
from bench.integrity.run_audit import run_row
from bench.outcome import Outcome
from bench.stores.sqlite import SqliteStore
from bench.stores.tracking import Metric, Tracking
from bench.stores.url import StoreUrl
from bench.workload import Layout, Workload

_WORK = Workload("power", "log_metric", keys=3)
_WRITERS = 2  # over one connection, in turn; each has a run of its own
_EXPERIMENT = "power cuts"


@dataclass(frozen=True)
class Commit:
    """One commit: the first ``begun`` events came before it, and after event ``acknowledged`` it was acknowledged."""

    writer: int
    begun: int
    acknowledged: int


@dataclass(frozen=True)
class Recording:
    """The events on a disk that began as ``image``, all of it durable, and the commits that caused them.

    ``settings`` were read back from SQLite when its connection was set up.
    """

    image: Mapping[str, bytes]
    layout: Layout
    experiment_id: int
    settings: Mapping[str, str]
    log: Sequence[Event]
    commits: Sequence[Commit]

    def expected(self, event: int) -> Expected:
        """The ledgers of writers whose machine stopped right after event number ``event`` (the first is 1)."""
        ledgers: list[list[Outcome]] = [[] for _ in range(self.layout.writers)]
        for commit in self.commits:
            doubt = Outcome.RESERVED if event > commit.begun else Outcome.UNTOUCHED
            ledgers[commit.writer].append(Outcome.OK if event >= commit.acknowledged else doubt)
        statuses = [np.array(ledger, dtype=np.uint8) for ledger in ledgers]
        return Expected(self.layout, statuses, self.experiment_id)


async def record(
    template: bytes, folder: Path, pragmas: Mapping[str, str], seed: int, commits: int, vfs: type[DiskVfs] = DiskVfs
) -> Recording:
    """Log ``commits`` metrics to runs that are long durable, then close the connection.

    ``template`` is the contents of a SQLite file with MLflow's schema; the set-up is made in ``folder``, before there
    is a disk that forgets. ``pragmas`` are those of the session. In the middle of a WAL a checkpoint is made, as SQLite
    makes one after 1000 pages.

    Raises:
        BadInput: SQLite did not take one of ``pragmas``.
    """
    layout = Layout(TrialKey.of("power", seed, 1), _WORK, _WRITERS)
    image, experiment_id = await _prepare(template, folder, layout)
    disk = Disk(image)
    registered = vfs(disk)
    try:
        store = DiskStore(registered)
        session = await store.connect(pragmas)
        try:
            settings = await store.settings(session)
            done: list[Commit] = []
            for number in range(commits):
                if number == commits // 2 and settings["journal_mode"] == "wal":
                    await session.fetch("PRAGMA wal_checkpoint")
                operation, writer = divmod(number, _WRITERS)
                begun = len(disk.log)
                await Tracking(store, session).log_metrics(
                    layout.run_id(writer, 0), [_metric(layout, writer, operation)]
                )
                done.append(Commit(writer, begun, len(disk.log)))
        finally:
            await session.close()
    finally:
        registered.unregister()
    return Recording(image, layout, experiment_id, settings, disk.log, done)


async def _prepare(template: bytes, folder: Path, layout: Layout) -> tuple[dict[str, bytes], int]:
    """A disk's files with an experiment and the runs in them, and the experiment's id."""
    path = folder / DATABASE
    path.write_bytes(template)
    store = SqliteStore(StoreUrl("sqlite", path=path))
    session = await store.connect()
    try:
        tracking = Tracking(store, session)
        experiment_id = await tracking.create_experiment(_EXPERIMENT, "power", EPOCH_MS)
        for writer, cycle in layout.setup_runs():
            await tracking.create_run(run_row(layout.key, writer, cycle, experiment_id, "power"))
    finally:
        await session.close()
    image = {DATABASE: path.read_bytes()}
    path.unlink()
    return image, experiment_id


def _metric(layout: Layout, writer: int, ordinal: int) -> Metric:
    ordinals = np.array([ordinal])
    times, values = identity.metrics(layout.key, np.array([writer]), ordinals)
    stored, is_nan = identity.as_stored(values)
    keys, steps = layout.metric_places(writer, ordinals)
    return keys[0], float(stored[0]), int(times[0]), steps[0], bool(is_nan[0])
