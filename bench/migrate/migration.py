"""A migration from beginning to end: the source's snapshot, a look at its rows, MLflow's schema, the copy, the proof.

The source is never written to. In the target everything can be interrupted: the row of `bench.migrate.progress` says
what the next call has to go on with, and a target without it is never touched unless it is empty.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from bench.errors import BadInput
from bench.migrate import bringing, progress
from bench.migrate.catalog import OURS, TRACKING, Catalog, Table, reflect
from bench.migrate.copying import Load, Size, Watcher, check_fit, guarded, sizes, span_ms
from bench.migrate.estimate import check_room, estimate
from bench.migrate.limits import listed
from bench.migrate.preflight import Look, check, preflight, refuse_unmakable
from bench.migrate.progress import Phase, Progress
from bench.migrate.proof import Proof
from bench.migrate.record import Estimate, Migration, Pass, Problem
from bench.migrate.sources import Source, open_source
from bench.migrate.targets import Gone, Target, target_for
from bench.migrate.targets.base import drivers, first_line
from bench.migrate.verify import refuse_same
from bench.stores import schema
from bench.stores.url import StoreUrl, parse

_AGAIN: Final = "the source is as it was; run the same command again to continue, or with --start-over to begin anew"


class Refused(Exception):
    """Rows that could not be moved exactly: nothing was moved, and the target is as it was."""

    def __init__(self, found: Migration) -> None:
        super().__init__(f"{len(found.problems)} problems")
        self.found = found


@dataclass(frozen=True)
class Options:
    """What the user chose."""

    dry_run: bool = False
    start_over: bool = False
    client: bool = True  # whether MLflow's own client takes part in the proof


@dataclass
class Work:
    """A migration under way: the target is open and locked."""

    given: str
    target: Target
    options: Options
    watcher: Watcher
    progress: Progress | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    passes: list[Pass] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)  # fields of the Migration

    @property
    def shown(self) -> str:
        """The source without a password, wherever it is called from."""
        if "://" in self.given and not self.given.startswith("file:"):
            return str(parse(self.given))
        return str(Path(unquote(urlsplit(self.given).path)).expanduser().resolve())

    @contextmanager
    def phase(self, name: str, rows: int | None = None) -> Iterator[None]:
        """Time a phase; several of one name add up."""
        began = time.monotonic()
        self.watcher.phase(name, rows)
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - began

    def result(self, proof: Proof | None = None) -> Migration:
        """What it came to so far."""
        return Migration(
            source=self.shown,
            target=str(self.target.url),
            seconds=self.seconds,
            passes=self.passes,
            notes=self.notes,
            proof=proof,
            **self.facts,
        )


@asynccontextmanager
async def opened(given: str, url: StoreUrl, options: Options, watcher: Watcher) -> AsyncIterator[Work]:
    """A migration into ``url``, which is locked and fit to go on with or to begin with; nothing is changed yet.

    Raises:
        BadInput: source and target are the same, the target can't be reached, is not empty, belongs to a migration
            from elsewhere, or another migration has it.
    """
    refuse_same(given, url)
    target = target_for(url)
    work = Work(given, target, options, watcher)
    try:
        await guarded(target, _enter(work))
        try:
            yield work
        except Gone as error:
            raise Gone(f"{error}; {_AGAIN}") from error
        except Exception as error:
            if not drivers(error):
                raise
            raise Gone(f"{work.shown} or {url}: {first_line(error)}; {_AGAIN}") from error
    finally:
        with suppress(Exception):
            await target.close()


async def _enter(work: Work) -> None:
    target, watcher = work.target, work.watcher
    await target.open()
    await target.lock_or_refuse(watcher.say)
    tables = await target.tables()
    if OURS not in tables:
        if tables:
            some = ", ".join(sorted(tables)[:3])
            raise BadInput(
                f"{target.url}: not empty: {len(tables)} tables ({some}, …); give an empty database; if a migration "
                "has ended with this, compare both by `trackbench verify`"
            )
        await target.may_make_tables()
        return
    anew, found = work.options.start_over, None
    with suppress(BadInput) if anew else nullcontext():
        found = await progress.read(target)
    if found is not None and found.source != work.shown and not anew:
        raise BadInput(
            f"{target.url}: holds an unfinished migration from {found.source}; go on with that source, or begin "
            "anew with --start-over"
        )
    if work.options.dry_run:
        work.notes.append("The target holds an unfinished migration.")
    elif anew or found is None or found.phase < Phase.LOADING:
        watcher.say("removing what an earlier migration left in the target")
        await _abandon(work, found)
        await target.renew(watcher.say)
    else:
        await target.alone()  # a killed migration's indexes may still be under way
        watcher.say(f"continuing: {found.phase.name.lower()}")
        work.progress = found


async def _abandon(work: Work, found: Progress | None) -> None:
    """Make the target what it was before the migration."""
    await work.target.session.rollback()
    await work.target.alone()
    await progress.begin_anew(work.target)
    await work.target.clear()
    await work.target.undo(found.before if found is not None else {})
    work.progress = None


async def migrate(given: str, url: StoreUrl, options: Options, watcher: Watcher) -> Migration:
    """Copy the store at ``given`` into the empty database at ``url`` and prove both equal, or continue doing so.

    Raises:
        Refused: rows of the source can't be moved exactly.
        BadInput: source or target don't do, or fail in the middle; the line says how to go on.
    """
    async with opened(given, url, options, watcher) as work:
        async with snapshot(work) as source:
            if options.dry_run:
                return await dry_run(work, source)
            await bring(work, source)
            proof = await prove(work, source)
        if proof.equal:
            await guarded(work.target, progress.remove(work.target))
        return work.result(proof)


@asynccontextmanager
async def snapshot(work: Work) -> AsyncIterator[Source]:
    """The source at one moment."""
    began = time.monotonic()
    work.watcher.phase("snapshot", None)
    async with open_source(work.given, work.watcher.say) as source:
        work.seconds["snapshot"] = work.seconds.get("snapshot", 0.0) + time.monotonic() - began
        for name, value in source.seconds.items():
            if name != "snapshot":  # parts of it: an upgrade, a file store taken in
                work.seconds[f"snapshot: {name}"] = value
        work.facts |= {
            "family": source.catalog.family.name,
            "revision": source.catalog.revision,
            "upgraded_from": source.upgraded_from,
            "held_s": source.held_s,
        }
        work.notes += [note for note in source.notes if note not in work.notes]
        yield source


async def dry_run(work: Work, source: Source) -> Migration:
    """What would keep the rows from being moved, and what the move would take."""
    refuse_unmakable(source.catalog, work.target.url)
    with work.phase("preflight"):
        packet = await _packet(work)
        work.facts["problems"] = await preflight(source.session, source.catalog, work.target.url.store, packet)
        work.facts["estimate"] = guess = await _estimate(work, source)
        work.notes += await check_room(_to_come(guess), work.target.url)
    if work.facts["problems"]:
        raise Refused(work.result())
    return work.result()


async def _packet(work: Work) -> int | None:
    return getattr(work.target, "packet", None)


async def _estimate(work: Work, source: Source) -> Estimate:
    taken = 0 if source.url.path is None else source.url.path.stat().st_size
    return await estimate(source.session, source.catalog, work.target.url.store, taken)


def _to_come(guess: Estimate) -> Estimate:
    """What is not taken yet: the snapshot is there."""
    return guess.model_copy(update={"snapshot_bytes": 0})


async def bring(work: Work, source: Source) -> None:
    """Bring the target to what the source is now, from whatever it holds of it.

    Raises:
        Refused: rows can't be moved exactly.
    """
    if work.progress is not None and work.progress.revision != source.catalog.revision:
        raise BadInput(
            f"{work.target.url}: the migration began at schema revision {work.progress.revision}, the source is at "
            f"{source.catalog.revision} now; begin anew with --start-over"
        )
    if work.progress is None:
        await _begin(work, source)
    else:
        await _still_fits(work, source)
    assert work.progress is not None
    if work.progress.phase == Phase.LOADING:
        await _load(work, source, work.progress)
    else:
        await catch_up(work, source)


async def _begin(work: Work, source: Source) -> None:
    """Make the schema while the rows are looked at; where they can't be moved the target is put back as it was."""
    target = work.target
    refuse_unmakable(source.catalog, target.url)
    work.facts["estimate"] = guess = await _estimate(work, source)
    work.notes += [note for note in await check_room(_to_come(guess), target.url) if note not in work.notes]
    with work.phase("schema"):
        before = await guarded(target, target.prepare())
        work.progress = made = Progress(work.shown, revision=source.catalog.revision, before=before)
        try:
            await guarded(target, made.create(target))
            await guarded(target, made.reach(target, Phase.SCHEMA))
            making = asyncio.ensure_future(schema.create_at(target.url, source.catalog.family, source.catalog.revision))
            try:
                problems = await _looked_at(work, source)
                if not problems:
                    await making
            finally:
                making.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await making
            if not problems:
                problems = await guarded(target, _shaped(work, source))
        except BadInput:
            await guarded(target, _abandon(work, made))
            raise
        if problems:
            await guarded(target, _abandon(work, made))
            work.facts["problems"] = problems
            raise Refused(work.result())


async def _still_fits(work: Work, source: Source) -> None:
    """Look at the rows again: some may have come since the migration began.

    Raises:
        BadInput: rows can't be moved exactly.
    """
    with work.phase("preflight"):
        problems = await preflight(source.session, source.catalog, work.target.url.store, await _packet(work))
    if problems:
        one = problems[0]
        key = ", ".join(f"{name}={value}" for name, value in one.key.items())
        raise BadInput(
            f"{work.shown}: {one.table} ({key}): {one.reason}; {one.remedy}; then run the same command again"
        )


async def _looked_at(work: Work, source: Source) -> list[Problem]:
    began = time.monotonic()
    found = await preflight(source.session, source.catalog, work.target.url.store, await _packet(work))
    work.facts["problems"] = found
    work.seconds["preflight"] = time.monotonic() - began
    return found


async def _shaped(work: Work, source: Source) -> list[Problem]:
    """The schema is there: see that it fits, look at the rows again where it is not known, empty it, drop indexes."""
    target, made = work.target, work.progress
    assert made is not None
    catalog = await asyncio.to_thread(reflect, target.url)
    check_fit(source.catalog, catalog, target.url)
    if not listed(source.catalog):
        problems = await check(Look(source.session, source.catalog, catalog, await _packet(work)))
        if problems:
            return problems
    if source.catalog.family == TRACKING:
        await target.shape(await span_ms(source))
    await target.empty(catalog)
    found = await sizes(source)
    await target.begin()
    made.deferred = await target.defer(deferrable(source.catalog, found, target.large))
    made.phase = Phase.LOADING
    await made.save(target)
    await target.session.commit()
    return []


def deferrable(catalog: Catalog, found: dict[str, Size], large: int) -> Sequence[Table]:
    """Tables whose indexes and constraints are made after their rows.

    Small ones are not worth it, unless they refer to themselves: parents may come after children in them.
    """
    return [
        table
        for name, table in catalog.tables.items()
        if found[name].rows > large or any(key.table == name for key in table.foreign_keys)
    ]


async def _load(work: Work, source: Source, made: Progress) -> None:
    target = work.target
    found = await sizes(source)
    resumed = bool(made.marks)
    rows = {name: size.rows for name, size in found.items()}
    began = time.monotonic()
    with work.phase("copy", sum(rows.values())):
        load = Load(source, target, made, work.watcher, found)
        moved = await guarded(target, load.all_tables())
    with work.phase("finish"):
        await guarded(target, target.restore(made.deferred, rows, last=not resumed))
    work.passes.append(Pass(rows=sum(rows.values()), inserted=moved, seconds=time.monotonic() - began))
    if resumed:
        await catch_up(work, source, done=False)
    await guarded(target, _finished(work, source, made, rows, resumed))


async def _finished(work: Work, source: Source, made: Progress, rows: dict[str, int], resumed: bool) -> None:
    target = work.target
    with work.phase("finish"):
        if resumed:
            await target.restore(made.deferred, rows, last=True)
        await target.number(source.catalog)
        await target.settle([name for name, count in rows.items() if count])
        made.deferred, made.marks = [], {}
        await made.reach(target, Phase.FINISHED)


async def catch_up(work: Work, source: Source, done: bool = True) -> Pass:
    """A pass over what differs."""
    with work.phase("catch up", None):
        careful = done and not work.passes  # what lies there is from an earlier call
        found = await guarded(work.target, bringing.sync(source, work.target, work.watcher, careful))
        if done:
            await guarded(work.target, work.target.number(source.catalog))
    work.passes.append(found)
    return found


async def prove(work: Work, source: Source) -> Proof:
    """Compare everything, the target being read by a process of its own."""
    with work.phase("proof", None):
        return await guarded(work.target, bringing.prove(source, work.target, work.options.client, work.watcher))
