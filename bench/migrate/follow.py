"""Short downtime: passes over what the source gained, until its writers are stopped; then the last and the proof."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bench.migrate import progress
from bench.migrate.copying import Watcher, guarded
from bench.migrate.migration import Options, bring, opened, prove, snapshot
from bench.migrate.record import Migration, Pass
from bench.stores.url import StoreUrl

PAUSE_S: Final = 5.0  # between two passes: each reads both stores whole
HOW: Final = "when the writers are stopped, press Enter (a script: a line on stdin, or SIGUSR1 to this process)"


class Stopped:
    """Whether and when the user said that the writers are stopped."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.at: float | None = None

    def say(self) -> None:
        """They are, now."""
        if self.at is None:
            self.at = time.monotonic()
            self._event.set()

    async def within(self, seconds: float) -> None:
        """Wait for it so long at most."""
        try:
            await asyncio.wait_for(self._event.wait(), seconds)
        except TimeoutError:
            return


@contextmanager
def listening(stopped: Stopped) -> Iterator[None]:
    """A line on stdin or SIGUSR1 says that the writers are stopped; the end of stdin says nothing."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, stopped.say)
    try:
        descriptor = sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):  # there is none
        descriptor = -1

    def read() -> None:  # a thread, since a file on stdin can't be waited for; it ends with the process
        try:
            found = os.read(descriptor, 4096)
            while found and b"\n" not in found:
                found = os.read(descriptor, 4096)
            if found:
                loop.call_soon_threadsafe(stopped.say)
        except (OSError, RuntimeError):  # stdin or the loop is closed
            return

    if descriptor >= 0:
        threading.Thread(target=read, daemon=True).start()
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)


async def follow(given: str, url: StoreUrl, options: Options, watcher: Watcher, stopped: Stopped) -> Migration:
    """`bench.migrate.migration.migrate`, again and again until ``stopped``, and proved then.

    The last pass begins with a snapshot that is taken after the writers were stopped.
    """
    async with opened(given, url, options, watcher) as work:
        told = False
        while True:
            last = stopped.at is not None
            async with snapshot(work) as source:
                await bring(work, source)
                if last:
                    proof = await prove(work, source)
                    break
            watcher.say(described(len(work.passes), work.passes[-1]))
            if not told:
                watcher.say(f"following the source: {HOW}")
                told = True
            await stopped.within(PAUSE_S)
        assert stopped.at is not None
        work.facts["frozen_to_proof_s"] = time.monotonic() - stopped.at
        if proof.equal:
            await guarded(work.target, progress.remove(work.target))
        return work.result(proof)


def described(number: int, one: Pass) -> str:
    """A pass in a line."""
    done = f"{one.inserted:,} rows in, {one.updated:,} changed, {one.deleted:,} deleted"
    return f"pass {number}: {done}, in {one.seconds:.1f} s"
