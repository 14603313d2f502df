"""The move of a store, around the trials of an ordinary run: copied and proved before them, proved again after them.

The source is opened once and stays as it was at that moment until the run is over, so that both proofs compare with the
same rows whatever its users go on to write. The target is locked as long, and the note in it that a migration is under
way stays: whoever carries the move out goes on from this copy.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from bench.decision_record import Move, Part, Step, Undone
from bench.decision_request import Named, Stopped, Wanted
from bench.errors import BadInput
from bench.migrate import artifacts, bringing, migration, rights
from bench.migrate.catalog import AUTH
from bench.migrate.client import open_stores
from bench.migrate.proof import Proof
from bench.migrate.reader import reading
from bench.migrate.sources import Source
from bench.migrate.targets import target_for
from bench.readiness.look import readiness
from bench.readiness.scene import Server
from bench.servers import RunningServer
from bench.stand import MoveIn, Stand, one_line
from bench.stores.url import StoreUrl

Echo = Callable[[str], None]
_AFTER_COPY: Final[tuple[Part, ...]] = ("load", "faults", "proof_after_load", "readiness", "backup", "artifacts")
_GONE: Final = "the target is a private server, gone with the run"


class Decision:
    """A move under way. ``move`` is what is known of it so far."""

    def __init__(self, wanted: Wanted, candidate: str, stack: AsyncExitStack, echo: Echo) -> None:
        self._wanted, self._stack, self._echo = wanted, stack, echo
        self._url: StoreUrl | None = None
        self._source: Source | None = None
        self._work: migration.Work | None = None
        self.move = Move(
            source=str(wanted.source), target=str(wanted.target), candidate=candidate, scratch=wanted.scratch
        )

    def move_in(self, name: str, store: str) -> MoveIn | None:
        """What fills the database of a candidate: the target by the copy, a SQLite reference with the same rows."""
        if name == self.move.candidate:
            return self._arrive
        return self._alike if store == "sqlite" and self._file is not None else None

    @property
    def _file(self) -> Path | None:
        """The source as a SQLite file of ours, if it is one."""
        return None if self._source is None else self._source.url.path

    def holds(self, name: str, store: str) -> str:
        """What a candidate's database holds beside the prefill, in words."""
        if name != self.move.candidate and (store != "sqlite" or self._file is None):
            return ""
        proof = None if self.move.migration is None else self.move.migration.proof
        return "your data" if proof is None else f"your data ({proof.compared:,} rows)"

    async def _arrive(self, url: StoreUrl, _: RunningServer | None) -> None:
        """Copy and prove, the other databases of the deployment as well.

        Raises:
            Stopped: rows can't be moved exactly, or what arrived is not equal.
            BadInput: source or target don't do.
        """
        self._url = url
        watcher = _Told(self._echo)
        options = migration.Options()
        opened = migration.opened(self._wanted.source.given, url, options, watcher)
        work = self._work = await self._stack.enter_async_context(opened)
        source = self._source = await self._stack.enter_async_context(migration.snapshot(work))
        try:
            await migration.bring(work, source)
        except migration.Refused as refused:
            self._know(migration=refused.found)
            self._stop("the store can't be moved exactly", "copy", "proof")
        proof = await migration.prove(work, source)
        self._know(migration=work.result(proof))
        for ours, theirs in self._wanted.also:
            await self._along(ours, theirs)
        if self.move.differs is not None:
            self._stop("the copy is not equal")

    async def _along(self, ours: Named, theirs: Named) -> None:
        """Move another database of the deployment; of an authentication database, compare what users may do."""
        assert theirs.url is not None
        self._echo(f"{ours}: moving to {theirs}")
        watcher, options = _Told(self._echo), migration.Options()
        opened = migration.opened(ours.given, theirs.url, options, watcher)
        async with opened as work, migration.snapshot(work) as source:
            try:
                await migration.bring(work, source)
            except migration.Refused as refused:
                self._know(also=[*self.move.also, refused.found])
                self._stop(f"{ours} can't be moved exactly")
            proof = await migration.prove(work, source)
            found = work.result(proof)
            self._know(also=[*self.move.also, found])
            if found.family == AUTH.name:
                await self._rights(proof, source.url, theirs.url)

    async def _rights(self, proof: Proof, ours: StoreUrl, theirs: StoreUrl) -> None:
        """As the proof read them; it does not ask MLflow of a source that is a server, which is asked here."""
        title = "users may do the same"
        differences, read = proof.client, proof.client_read
        if differences is None:
            try:
                differences, read = await rights.compare_rights(ours, theirs)
            except BadInput as error:
                self._add(Step(step=title, outcome="unknown", said=one_line(error)))
                return
        counted = ", ".join(f"{what} {number:,}x" for what, number in read.items())
        first = next((f"{one.what} {one.where}: {one.source} there, {one.target} here" for one in differences), "")
        said = first or f"{counted} read equal"
        self._add(Step(step=title, outcome="fail" if differences else "pass", said=said))

    async def _alike(self, url: StoreUrl, _: RunningServer | None) -> None:
        """Give the reference the same rows: the snapshot itself."""
        assert self._file is not None
        assert url.path is not None
        await asyncio.to_thread(_copy, self._file, url.path)

    async def after(self, ready: Stand) -> None:
        """The load's own rows are gone: prove again, look at the target and at the artifacts.

        What can't be done is noted, and costs the run nothing that it has measured.
        """
        if self._work is None or self._source is None or self._url is None:
            return
        await self._tried("proof_after_load", self._prove_again())
        if ready.theirs:
            await self._tried("readiness", self._look(self._url, ready))
        else:
            remedy = "give the server that is to hold it: --target URL"
            self._undo(_GONE, "readiness", "backup", remedy=remedy)
        await self._tried("artifacts", self._artifacts(self._url))

    async def _prove_again(self) -> None:
        assert self._work is not None
        assert self._source is not None
        assert self._url is not None
        self._echo("proving once more that source and copy are equal")
        target = target_for(self._url)  # a session of its own: the first may have met a fault of ours
        try:
            await target.open()
            proof = await bringing.prove(self._source, target, self._work.options.client, self._work.watcher)
        finally:
            await target.close()
        self._know(proof_after_load=proof)

    async def _look(self, url: StoreUrl, ready: Stand) -> None:
        self._echo("looking whether the target is ready for production, with a backup and its restore")
        tracking = ready.spec.tracking
        plain = Server()
        pool, overflow = tracking.pool_size or plain.pool, tracking.max_overflow or plain.overflow
        for one in (url, *(theirs.url for _, theirs in self._wanted.also)):
            if one is not None:
                found = await readiness(one, Server(tracking.workers, pool, overflow), echo=self._echo)
                self._know(readiness=[*self.move.readiness, found])

    async def _artifacts(self, url: StoreUrl) -> None:
        """Fetch a sample: addresses are copied, files are not; what is not found may not have been there before."""
        assert self._source is not None
        async with reading(self._source.url, url) as reader:
            await open_stores(reader)
            found = await artifacts.look_at_artifacts(reader)
        counts = Counter(one.found for one in found)
        bad = [one for one in found if one.found == "not reachable from here"]
        told = ", ".join(f"{number} {what}" for what, number in counts.items())
        said = f"{len(found)} addresses: {told}" if found else "no run or model has an address"
        remedy = ""
        if bad:
            said += f"; not {bad[0].what}: {bad[0].uri}: {bad[0].said}"
            remedy = "try it from where the MLflow server runs: the addresses are the same as in the source"
        self._add(Step(step="artifacts fetched", outcome="warn" if bad else "pass", said=said, remedy=remedy))

    async def _tried(self, part: Part, work: Any) -> None:
        try:
            await work
        except Exception as error:
            self._undo(f"could not be done: {one_line(error)}", part, remedy="see what it says, then run again")

    def _stop(self, reason: str, *parts: Part) -> None:
        self._undo(reason, *parts, *_AFTER_COPY)
        raise Stopped(reason)

    def _undo(self, reason: str, *parts: Part, remedy: str = "") -> None:
        more = [Undone(part=part, reason=reason, remedy=remedy) for part in parts]
        self._know(undone=[*self.move.undone, *more])

    def _add(self, step: Step) -> None:
        self._know(extra=[*self.move.extra, step])

    def _know(self, **changes: object) -> None:
        self.move = self.move.model_copy(update=changes)


class _Told:
    """A migration's watcher that tells the run's."""

    def __init__(self, echo: Echo) -> None:
        self._echo = echo

    def say(self, text: str) -> None:
        """A line."""
        self._echo(text)

    def phase(self, name: str, rows: int | None = None) -> None:
        """A phase begins."""
        self._echo(f"moving: {name}{'' if rows is None else f', {rows:,} rows'}")

    def moved(self, rows: int) -> None:
        """Nothing: a line for each batch would be too many."""


@asynccontextmanager
async def deciding(wanted: Wanted, candidate: str, echo: Echo) -> AsyncIterator[Decision]:
    """A move for the length of a run."""
    async with AsyncExitStack() as stack:
        yield Decision(wanted, candidate, stack, echo)


def _copy(source: Path, target: Path) -> None:
    place = f"file:{quote(str(source))}?mode=ro"
    with closing(sqlite3.connect(place, uri=True)) as ours, closing(sqlite3.connect(target)) as theirs:
        ours.backup(theirs)
