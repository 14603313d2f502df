"""Compares a target with the source's snapshot, to bring it what differs, or to prove that nothing does."""

from __future__ import annotations

import asyncio
import secrets
import time
from pathlib import Path
from typing import Final

from bench.errors import BadInput
from bench.migrate.applying import Changes, apply, gather
from bench.migrate.catalog import reflect
from bench.migrate.client import compare_as_mlflow
from bench.migrate.copying import Watcher
from bench.migrate.differences import differing_rows
from bench.migrate.proof import Proof
from bench.migrate.reader import reading
from bench.migrate.record import Pass
from bench.migrate.side import LocalSide, remote_side, together
from bench.migrate.sources import Source
from bench.migrate.structure import compare_sequences, compare_structure
from bench.migrate.targets import Target
from bench.migrate.verify import pairs_of, prove_rows
from bench.scratch import scratch_folder

_SECRET_BYTES: Final = 32
RUNS: Final = "runs"
_OF_OURS: Final = "trackbench-"  # how the experiments of our loads are called


async def sync(source: Source, target: Target, watcher: Watcher, careful: bool = False) -> Pass:
    """Bring the target to what the source's snapshot is, whatever it holds of it.

    Raises:
        BadInput: a side can't be read, or a change can't be made; or, if ``careful``, the target has runs that the
            source lacks, which somebody may have logged there since.
    """
    began = time.monotonic()
    catalog = await asyncio.to_thread(reflect, target.url)
    changes: dict[str, Changes] = {}
    rows = 0
    try:
        with scratch_folder("differences") as folder:
            async with remote_side(target.url) as there:
                here, secret = LocalSide(source.session, source.url), secrets.token_bytes(_SECRET_BYTES)
                for name, pair in pairs_of(source.catalog, catalog).items():
                    ours, theirs = await together(
                        here.digest(pair[0], secret, watcher.moved), there.digest(pair[1], secret)
                    )
                    rows += ours.rows
                    if (wanted := ours.differing(theirs)).any():
                        stream = differing_rows(here, there, pair, secret, wanted, Path(folder))
                        changes[name] = await gather(stream, catalog.tables[name], pair[0], target.url.store)
            if careful and RUNS in changes:
                await _refuse_strangers(target, changes[RUNS])
            made = await apply(target, catalog, changes)
    finally:
        for one in changes.values():
            one.close()
    return made.model_copy(update={"rows": rows, "seconds": time.monotonic() - began})


async def _refuse_strangers(target: Target, changes: Changes) -> None:
    """See that no run would be deleted but those of a load of ours.

    Raises:
        BadInput: one would.
    """
    statement = target.store.dialect.render(
        "SELECT e.name FROM runs r LEFT JOIN experiments e ON e.experiment_id = r.experiment_id WHERE r.run_uuid = ?"
    )
    for batch in changes.deletes.batches():
        for key in batch:
            rows = await target.session.fetch(statement, *key)
            if rows and not str(rows[0][0] or "").startswith(_OF_OURS):
                await target.session.rollback()
                raise BadInput(
                    f"{target.url}: has up to {changes.deletes.rows} runs that the source lacks, {key[0]} among them: "
                    "is MLflow at work there already? Then stop here; if not (the source lost runs by `mlflow gc`), "
                    "begin anew with --start-over"
                )
    await target.session.rollback()


async def prove(source: Source, target: Target, client: bool, watcher: Watcher) -> Proof:
    """Compare everything: each row, the schema, the next numbers, and a sample through MLflow's own client.

    The rows of the target are read by a process of its own, with a session of its own, when all is committed.

    Raises:
        BadInput: a side can't be read.
    """
    seconds: dict[str, float] = {}
    began = time.monotonic()
    catalog = await asyncio.to_thread(reflect, target.url)
    async with remote_side(target.url) as there:
        here = LocalSide(source.session, source.url)
        rows = await prove_rows(here, there, (source.catalog, catalog), told=lambda _, more: watcher.moved(more))
    seconds["rows"] = time.monotonic() - began
    began = time.monotonic()
    structure = compare_structure(source.catalog, catalog) + await compare_sequences(catalog, target.session)
    await target.session.rollback()
    seconds["structure"] = time.monotonic() - began
    differences, read, notes = None, dict[str, int](), list[str]()
    if client and source.url.path is None:
        notes.append(
            "MLflow's client was not asked: the source is a server, where others may have written since the copy; "
            "`trackbench verify` asks it"
        )
    elif client:
        began = time.monotonic()
        watcher.say("reading a sample of both as MLflow does")
        async with reading(source.url, target.url) as reader:
            differences, read, why_not = await compare_as_mlflow(reader, source.catalog, catalog)
        notes += [why_not] if why_not else []
        seconds["client"] = time.monotonic() - began
    return Proof(
        source=source.given,
        target=str(target.url),
        family=source.catalog.family.name,
        revision=source.catalog.revision,
        tables=rows.tables,
        rows=rows.named,
        rows_not_named=rows.not_named,
        structure=structure,
        client=differences,
        client_read=read,
        seconds=seconds,
        notes=notes,
    )
