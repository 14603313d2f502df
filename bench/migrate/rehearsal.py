"""Rehearses an upgrade of MLflow's schema on copies of a store: how long it takes, and whether it survives a kill -9.

One copy is upgraded undisturbed, and its version table watched. On further copies the upgrade is killed in the middle
of the steps that took longest, and made again: it must end with the very store that the undisturbed one made. MySQL
commits before and after each statement that changes a schema, and SQLite's driver before many, so that half a
migration can stay behind and stop the next upgrade; then only a backup helps, and it is better to know beforehand.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import BadInput
from bench.migrate.catalog import Catalog, reflect
from bench.migrate.proof import Proof
from bench.migrate.rehearsal_copies import Copies, Echo, copies_of
from bench.migrate.rehearsal_record import Kill, Left, Moment, Rehearsal, Step
from bench.migrate.side import LocalSide
from bench.migrate.structure import compare_sequences, compare_structure
from bench.migrate.upgrades import Mlflow, Upgrade, mlflow_of, upgrade
from bench.migrate.verify import prove_rows
from bench.stores import store_for
from bench.stores.base import Session, Store
from bench.stores.url import StoreUrl

Prove = Callable[[StoreUrl, StoreUrl], Awaitable[Proof]]

_POLL_S = 0.005
_ATTEMPTS = 3  # to kill an upgrade that is over sooner than the one before
_IMPATIENT = {"busy_timeout": "0"}  # whoever looks must not wait for the upgrade's lock
_SETTLES_S = 120.0  # within which a database has ended what a killed client began; at least


async def rehearse(url: StoreUrl, python: Path | None, kills: int, echo: Echo, prove: Prove | None = None) -> Rehearsal:
    """Upgrade copies of the store at ``url``, by the MLflow of ``python`` (None: ours), with so many kills.

    Raises:
        BadInput: the store can't be read or copied, is up to date already, or of a revision that MLflow does not know.
    """
    if url.path is not None and not await asyncio.to_thread(url.path.is_file):
        raise BadInput(f"{url}: no such file; give the URL of an MLflow store")
    catalog = await asyncio.to_thread(reflect, url)
    await _refuse_misfit(url)
    mlflow = await mlflow_of(python, catalog.family)
    migrations = migrations_between(catalog, mlflow, url, python)
    echo(f"copying {url}")
    async with copies_of(url, catalog, echo) as copies:
        stage = _Stage(catalog, python, copies, prove or _verified, echo)
        return Rehearsal(
            url=str(url),
            store=url.store,
            family=catalog.family.name,
            rehearsed_on=copies.database,
            mlflow=mlflow.version,
            revision=catalog.revision,
            head=mlflow.head,
            migrations=migrations,
            rows=copies.rows,
            notes=copies.notes,
            **await stage.play(kills),
        )


def migrations_between(catalog: Catalog, mlflow: Mlflow, url: StoreUrl, python: Path | None) -> int:
    """How many migrations that MLflow has to make; a store without a revision is an old authentication database.

    Raises:
        BadInput: none, or it does not know the store's revision.
    """
    if catalog.revision is None:
        return len(mlflow.known)
    if catalog.revision not in mlflow.known:
        raise BadInput(
            f"{url}: MLflow {mlflow.version} does not know its schema revision {catalog.revision}; "
            "give --mlflow with the Python of an MLflow that is newer than the store's"
        )
    ahead = mlflow.known.index(catalog.revision)
    if ahead == 0:
        whose = "that MLflow" if python else "our MLflow"
        raise BadInput(
            f"{url}: is at {mlflow.head} already, the newest schema revision of {whose} ({mlflow.version}); "
            "give --mlflow with the Python of an environment that has a newer MLflow"
        )
    return ahead


def moments(steps: Sequence[Step], kills: int) -> list[Moment]:
    """When to kill: in the middle of the longest step, in its thirds where another kill is best spent there too, ….

    One after the other a kill goes to the step that it cuts into the longest parts; they come in the order of time.
    """
    cuts = [0] * len(steps)
    for _ in range(kills):
        longest = max(range(len(steps)), key=lambda n: (steps[n].seconds / (cuts[n] + 1), -n))
        cuts[longest] += 1
    return [
        Moment(revision=step.revision, after_s=step.seconds * part / (count + 1))
        for step, count in zip(steps, cuts, strict=True)
        for part in range(1, count + 1)
    ]


@dataclass
class _Watch:
    """One session beside an upgrade, which asks for the revision again and again."""

    store: Store
    session: Session
    table: str
    last: str | None

    async def revision(self) -> str | None:
        """As the version table has it now; as it was before where it can't be read now."""
        try:
            await self.session.rollback()
            rows = await self.session.fetch(f"SELECT version_num FROM {self.table}")
            await self.session.rollback()
        except Exception:  # locked for a moment, or not there yet
            return self.last
        self.last = rows[0][0] if rows else None
        return self.last

    async def steps(self, under_way: Upgrade) -> list[Step]:
        """The revisions that show until the upgrade ends, each with its time."""
        found, since = list[Step](), under_way.began
        shown = self.last
        while under_way.running:
            now = await self.revision()
            if now != shown:
                found.append(Step(revision=shown, seconds=time.monotonic() - since))
                shown, since = now, time.monotonic()
            await asyncio.sleep(_POLL_S)
        return [*found, Step(revision=shown, seconds=time.monotonic() - since)]

    async def reaches(self, moment: Moment, under_way: Upgrade) -> bool:
        """Wait for the moment; it is also over when the step was quicker this time. False if the upgrade ended."""
        since = under_way.began if self.last == moment.revision else None
        while under_way.running:
            now = await self.revision()
            if since is not None and (now != moment.revision or time.monotonic() - since >= moment.after_s):
                return under_way.running
            if since is None and now == moment.revision:
                since = time.monotonic()
            await asyncio.sleep(_POLL_S)
        return False

    async def settle(self, seconds: float) -> float:
        """Wait until the database has no session of a killed client at work, at most so long; how long it took."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            await self.session.rollback()
            busy = [await self.store.writers_left(self.session, pooled) for pooled in (False, True)]
            await self.session.rollback()
            if not any(busy):
                break
            await asyncio.sleep(_POLL_S)
        return time.monotonic() - began

    async def tables(self) -> set[str]:
        """The tables there are."""
        await self.session.rollback()
        return set(await self.store.tables(self.session))


@dataclass(frozen=True)
class _Undisturbed:
    """An upgrade that nobody disturbed: ``tables`` there are then, ``failure`` its last words if it failed."""

    steps: list[Step]
    seconds: float
    tables: set[str]
    failure: str | None


@dataclass
class _Stage:
    """What the acts of a rehearsal have in common."""

    catalog: Catalog
    python: Path | None
    copies: Copies
    prove: Prove
    echo: Echo

    async def play(self, kills: int) -> dict[str, Any]:
        """All of it; the fields of a `Rehearsal` that are found out here."""
        self.echo(f"upgrading a copy of {self.copies.rows:,} rows")
        whole = await self.copies.fresh()
        done = await self._undisturbed(whole)
        told: dict[str, Any] = {
            "seconds": {"copy": self.copies.seconds, "upgrade": done.seconds},
            "steps": done.steps,
            "failure": done.failure,
        }
        if done.failure is not None:
            return told
        found, excused = list[Kill](), set[str]()
        for number, moment in enumerate(moments(done.steps, kills), 1):
            self.echo(f"kill {number} of {kills}: {moment.after_s:.2f} s after revision {moment.revision} shows")
            kill = await self._killed(moment, whole, done)
            if kill.proof is not None:
                kill, columns = await self._excused(kill, kill.proof, whole)
                excused |= columns
            found.append(kill)
        return {**told, "kills": found, "unstable": sorted(excused)}

    async def _undisturbed(self, url: StoreUrl) -> _Undisturbed:
        async with self._upgrading(url) as (under_way, watch):
            steps = await watch.steps(under_way) if await under_way.begin() else []
            well = await under_way.wait()
            tables = await watch.tables()
        return _Undisturbed(steps, under_way.seconds, tables, None if well else under_way.words)

    async def _killed(self, moment: Moment, whole: StoreUrl, done: _Undisturbed) -> Kill:
        """One kill on a copy of its own; earlier ones on further copies where the upgrade was over too soon."""
        for attempt in range(_ATTEMPTS):
            wanted = moment.model_copy(update={"after_s": moment.after_s / 2**attempt})
            url = await self.copies.fresh()
            try:
                kill = await self._cut(wanted, url, done)
                if kill.at_s is not None:
                    return await self._again(kill, url, whole)
            finally:
                await self.copies.discard(url)
        return kill

    async def _cut(self, moment: Moment, url: StoreUrl, done: _Undisturbed) -> Kill:
        """Begin the upgrade, kill it at the moment, and look at what it left."""
        async with self._upgrading(url) as (under_way, watch):
            if not await under_way.begin() or not await watch.reaches(moment, under_way):
                return Kill(moment=moment, at_s=None, outcome="missed")
            await under_way.kill()
            settled = await watch.settle(max(_SETTLES_S, 10 * done.seconds))
            now, before = await watch.tables(), set(self.catalog.tables) | {self.catalog.family.version_table}
            left = Left(
                revision=await watch.revision(),
                new_tables=sorted(now & done.tables - before),
                gone_tables=sorted((before & done.tables) - now),
                stray_tables=sorted(now - before - done.tables),
            )
            return Kill(
                moment=moment,
                at_s=under_way.seconds,
                during=under_way.step,
                settled_s=settled,
                left=left,
                outcome="blocked",
            )

    async def _again(self, kill: Kill, url: StoreUrl, whole: StoreUrl) -> Kill:
        """The second upgrade, and the proof that it made the same store as the undisturbed one."""
        async with upgrade(self.python, self.catalog.family, url) as under_way:
            well = await under_way.wait()
        told = kill.model_copy(update={"again_s": under_way.seconds})
        if not well:
            return told.model_copy(update={"words": under_way.words})
        proof = await self.prove(whole, url)
        if proof.equal:
            return told.model_copy(update={"outcome": "recovered"})
        return told.model_copy(update={"outcome": "differs", "proof": proof})

    async def _excused(self, kill: Kill, proof: Proof, whole: StoreUrl) -> tuple[Kill, set[str]]:
        """What also differs between two undisturbed upgrades (a time of day, a number by chance) is no damage."""
        url = await self.copies.fresh()
        try:
            if (await self._undisturbed(url)).failure is not None:
                return kill, set()
            twins = _differing(await self.prove(whole, url))
        finally:
            await self.copies.discard(url)
        if not harmless(proof, twins):
            return kill, set()
        return kill.model_copy(update={"outcome": "recovered", "proof": None}), twins

    @asynccontextmanager
    async def _upgrading(self, url: StoreUrl) -> AsyncIterator[tuple[Upgrade, _Watch]]:
        store = store_for(url)
        session = await store.connect(_IMPATIENT if url.path is not None else None)
        try:
            async with upgrade(self.python, self.catalog.family, url) as under_way:
                yield under_way, _Watch(store, session, self.catalog.family.version_table, self.catalog.revision)
        finally:
            await session.close()


def harmless(proof: Proof, twins: set[str]) -> bool:
    """Whether a proof found nothing but what differs between undisturbed upgrades too: ``twins``, by `_differing`.

    They may give rows other keys by chance, but never make more of them, nor fewer.
    """
    uneven = any(table.source_rows != table.target_rows for table in proof.tables)
    return not (proof.structure or proof.rows_not_named or uneven) and _differing(proof) <= twins


def _differing(proof: Proof) -> set[str]:
    """The columns that differ; for rows that only one side has, all of their table."""
    return {f"{row.table}.{cell.column}" for row in proof.rows for cell in row.cells} | {
        f"{row.table}.*" for row in proof.rows if row.sort != "changed"
    }


async def _refuse_misfit(url: StoreUrl) -> None:
    """What the URL calls another database than it is would be rehearsed on the wrong one."""
    store = store_for(url)
    session = await store.connect()
    try:
        reason = await store.misfit(session, empty=False)
    finally:
        await session.close()
    if reason is not None:
        raise BadInput(f"{url}: {reason}")


async def _verified(source: StoreUrl, target: StoreUrl) -> Proof:
    """Rows, structure and next numbers of two copies; not through MLflow's client, which may be older than they are."""
    ours, theirs = await asyncio.to_thread(reflect, source), await asyncio.to_thread(reflect, target)
    async with _frozen(source) as one, _frozen(target) as other:
        rows = await prove_rows(LocalSide(one, source), LocalSide(other, target), (ours, theirs))
        structure = compare_structure(ours, theirs) + await compare_sequences(theirs, other)
    return Proof(
        source=str(source),
        target=str(target),
        family=ours.family.name,
        revision=ours.revision,
        tables=rows.tables,
        rows=rows.named,
        rows_not_named=rows.not_named,
        structure=structure,
        client=None,
    )


@asynccontextmanager
async def _frozen(url: StoreUrl) -> AsyncIterator[Session]:
    session = await store_for(url).connect()
    try:
        await session.freeze()
        yield session
    finally:
        await session.close()
