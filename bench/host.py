"""A run whose load somebody else makes: Locust, in processes of its own.

Started by Locust's master, or by a Locust that works alone; frames (`bench.frames`) on stdin and stdout.

    stdin   first what is asked for (`Order`), then the load's frames: "ready" for each part of it, and at last "end"
            or "failed"; or "dropped": nothing was measured, forget the run
    stdout  {"event": "say", "text"} while it prepares; {"event": "job", "job", "folder", "criteria"} once the load may
            begin; {"event": "result", "folder", "exit_code", "verdict", "reason", "criteria"} when all is judged and
            the reports are written; {"event": "refused", "message"} for bad input, after which nothing is left

So stands, read-back, judgement and reports stay in one place, whoever makes the load. The end of stdin ends everything
that was started here; what was measured is kept.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from bench import frames, run, run_folder, scenario, scenario_rules, selection
from bench.arrivals import Kind as ArrivalsKind
from bench.conclusion import cut_short
from bench.errors import BadInput
from bench.job import Driver, Job
from bench.judge.criteria import parse
from bench.judge.fields import of_cells
from bench.judge.trials import Window
from bench.plan import Overrides, Trial
from bench.rest import site_of
from bench.results import Results, read
from bench.scenario import LoadedScenario, Scenario
from bench.slices import judged_by_slices
from bench.stores.url import from_option
from bench.trial_record import TrialRecord
from bench.workload import Kind

_FOR_EVER = float("inf")
_STDOUT = 1


@dataclass(frozen=True)
class Order:
    """One trial. ``users`` is its concurrency, ``identities`` the writers that there is room for.

    ``url`` is the store's, as `--store` takes it, ``tracking_url`` the user's own tracking server; both may hold
    passwords. ``command`` is what the user typed. ``rate`` makes an open loop of it, of so many operations a second.
    """

    scenario: str
    driver: Driver
    kind: Kind
    store: str
    url: str | None
    tracking_url: str | None
    users: int
    identities: int
    warmup_s: float | None
    seed: int | None
    out: str
    command: list[str]
    rate: float | None = None
    arrivals: ArrivalsKind = "poisson"

    @property
    def cell(self) -> dict[str, object]:
        """What it says of its cell, but for the workload."""
        said: dict[str, object] = {
            "driver": self.driver,
            "concurrency": [self.users],
            "warmup_s": self.warmup_s,
        }
        return said if self.rate is None else said | {"rate": [self.rate], "arrivals": self.arrivals}

    def told(self) -> dict[str, object]:
        """As a frame has it."""
        return asdict(self)


def one_cell(loaded: LoadedScenario, order: Order) -> tuple[Scenario, tuple[str, ...]]:
    """The scenario reduced to one cell, and notes on what can't be judged so.

    The candidate is the scenario's first on the store, the workload its first of the kind. Criteria of another
    concurrency are judged here all the same; those that need the reference, or a baseline run, can't be.

    Raises:
        BadInput: the scenario has no such workload, or the user's is an unknown store.
    """
    whole = selection.with_stores(loaded.scenario, [order.store])
    candidate = next(name for name, spec in whole.candidates.items() if spec.store == order.store)
    cells = {name: scenario.CellSpec.model_validate({"workload": name, **order.cell}) for name in whole.workloads}
    fitting = [
        name
        for name, spec in whole.workloads.items()
        if spec.kind == order.kind
        and scenario_rules.misplaced(cells[name], spec) is None
        and not (spec.lockstep and (order.driver == "direct" or order.rate))  # users come and go, or wait their turn
    ]
    if not fitting:
        kinds = ", ".join(sorted({spec.kind for spec in whole.workloads.values()}))
        raise BadInput(f"scenario {loaded.name}: no workload of kind {order.kind}, only {kinds}; use another scenario")
    work = fitting[0]
    apart = [one for one in loaded.scenario.criteria if parse(one.expression).against]
    criteria = [
        one.model_copy(update={"concurrency": None})
        for one in whole.criteria
        if one not in apart
        and one.faults is None
        and of_cells(parse(one.expression).field)
        and one.workload in (None, work)
        and one.driver in (None, order.driver)
        and one.loop in (None, "closed" if order.rate is None else "open")
    ]
    if not any(one.gating for one in criteria):
        raise BadInput(f"scenario {loaded.name}: no criterion judges {order.kind} over {order.driver}; use another one")
    reduced = whole.model_copy(
        update={
            "candidates": {candidate: whole.candidates[candidate]},
            "reference": None,
            "control": None,
            "baseline": None,
            "workloads": {work: whole.workloads[work]},
            "cells": [cells[work]],
            "criteria": criteria,
            "rounds": 1,
        }
    )
    return reduced, tuple(f"Not judged, since {_missing(one)}: {one.name}." for one in apart)


def _missing(criterion: scenario.CriterionSpec) -> str:
    return "the reference did not run" if parse(criterion.expression).uses_reference else "it needs a baseline run"


def request_of(order: Order) -> run.Request:
    """What `bench.run` is to do.

    Raises:
        BadInput: the scenario, the store or a URL is none.
    """
    loaded = scenario.load(order.scenario)
    if order.users > scenario_rules.MAX_WRITERS:
        raise BadInput(f"{order.users} users: at most {scenario_rules.MAX_WRITERS}; start fewer with -u")
    reduced, notes = one_cell(loaded, order)
    urls = {} if order.url is None else {order.store: from_option(order.store, order.url)}
    sites = {} if order.tracking_url is None else {order.store: site_of(order.tracking_url)}
    return run.Request(
        loaded.model_copy(update={"scenario": reduced}),
        Overrides(duration_s=_FOR_EVER, identities=order.identities),
        urls,
        reduced.seed if order.seed is None else order.seed,
        Path(order.out),
        keep=False,
        notes=notes,
        sites=sites,
    )


class _Watcher:
    """Tells Locust what is being prepared."""

    def say(self, text: str) -> None:
        """A line about what is being prepared."""
        _send({"event": "say", "text": text})

    def trial_begins(self, trial: Trial, done: int, planned: int) -> None:
        """There is one trial only."""

    def trial_ended(self, record: TrialRecord) -> None:
        """Say why it could not be measured; the rest is in the result."""
        if record.error is not None:
            self.say(f"not measured: {record.error}")


class _Elsewhere:
    """A load that Locust makes; its frames come from there."""

    def __init__(self) -> None:
        self._frames: asyncio.Queue[dict[str, object]] = asyncio.Queue()
        self.interrupted = False
        self.dropped = False
        self.window: Window | None = None
        self.notes: list[str] = []

    async def frames(self) -> AsyncIterator[dict[str, object]]:
        """What Locust says of it, to its end."""
        while True:
            frame = await self._frames.get()
            if frame["event"] == "end":
                self.interrupted = bool(frame.get("interrupted"))
                self.notes = [str(note) for note in cast(list[str], frame.get("notes", []))]
                self.window = Window(int(str(frame["begin_ns"])), int(str(frame["end_ns"])))
            yield frame
            if frame["event"] in ("end", "failed"):
                return

    async def listen(self, stream: asyncio.StreamReader) -> None:
        """Take its frames, until nobody sends any more, or the whole run is dropped."""
        while (frame := await frames.read_frame(stream)) is not None:
            if frame["event"] == "dropped":
                self.dropped = True
                return
            await self._frames.put(frame)


def _send(message: dict[str, object]) -> None:
    left = frames.pack(message)
    with suppress(BrokenPipeError):  # the owner is gone, which the end of stdin tells as well
        while left:
            left = left[os.write(_STDOUT, left) :]


async def _carry_out(order: Order, load: _Elsewhere) -> tuple[Results, Path]:
    request = request_of(order)
    folder = run_folder.new_folder(request.out, request.scenario.name, datetime.now(UTC)).absolute()

    @asynccontextmanager
    async def hand_over(job: Job) -> AsyncIterator[_Elsewhere]:
        criteria = [one.model_dump() for one in request.scenario.scenario.criteria]
        _send({"event": "job", "job": job.to_json(), "folder": str(folder), "criteria": criteria})
        yield load

    try:
        found = await run.run(request, folder, _Watcher(), hand_over)
    except BadInput:
        if not (folder / "trials").exists():
            run_folder.discard(folder)
        raise
    except asyncio.CancelledError:
        if load.dropped or not (folder / "trials").exists():
            run_folder.discard(folder)
        else:
            _report(read(folder), folder)
        raise
    if load.window is not None:
        found = judged_by_slices(found, folder, request.scenario.scenario, load.window)
    found = found.model_copy(update={"notes": [*found.notes, *load.notes]})
    if load.interrupted:
        found = cut_short(found)
    found.write(folder)
    _report(found, folder)
    return found, folder


def _report(found: Results, folder: Path) -> None:
    import reports  # only here: it loads what draws

    reports.write_all(found, folder)


def _told(found: Results, folder: Path) -> dict[str, object]:
    """The last frame."""
    candidate = found.candidates[0].name if found.candidates else ""
    return {
        "event": "result",
        "folder": str(folder),
        "exit_code": found.exit_code,
        "verdict": found.verdict,
        "reason": found.reasons.get(candidate, ""),
        "criteria": [one.model_dump() for one in found.criteria],
    }


async def _main() -> None:
    loop = asyncio.get_running_loop()
    stream = asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), sys.stdin)
    first = await frames.read_frame(stream)
    if first is None:
        return
    order = Order(**first)  # type: ignore[arg-type]
    sys.argv = order.command
    load = _Elsewhere()
    work = asyncio.create_task(_carry_out(order, load))
    listening = asyncio.create_task(load.listen(stream))
    await asyncio.wait({work, listening}, return_when=asyncio.FIRST_COMPLETED)
    listening.cancel()
    work.cancel()  # does nothing to one that is done; otherwise nobody wants it any more
    try:
        _send(_told(*await work))
    except BadInput as error:
        _send({"event": "refused", "message": str(error)})
    except asyncio.CancelledError:
        return


if __name__ == "__main__":
    asyncio.run(_main())
