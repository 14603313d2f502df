"""How a command ends on a signal: its work is cancelled, cleans up, and the exit code says which signal it was."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from bench.errors import ExitCode

T = TypeVar("T")


class Interrupted(Exception):
    """A signal ended the command; ``code`` is the exit code that goes with it."""

    def __init__(self, code: ExitCode) -> None:
        super().__init__(code.name)
        self.code = code


def until_signal(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine; SIGINT and SIGTERM cancel it, let it clean up, and become `Interrupted`."""
    caught: list[ExitCode] = []

    async def supervised() -> T:
        task = asyncio.ensure_future(work())
        loop = asyncio.get_running_loop()

        def stop(code: ExitCode) -> None:
            caught.append(code)
            if len(caught) == 1:  # a second signal must not cut the clean-up short
                task.cancel()

        loop.add_signal_handler(signal.SIGINT, stop, ExitCode.INTERRUPTED)
        for ending in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(ending, stop, ExitCode.TERMINATED)
        return await task

    try:
        return asyncio.run(supervised())
    except asyncio.CancelledError:
        raise Interrupted(caught[0] if caught else ExitCode.INTERRUPTED) from None
