"""A process of a test: a migration that ends itself by kill -9 at a point, the moment that it gets there.

``python migrate_killed.py POINT N SOURCE``: at the N-th time. The target and the schema come by environment.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from migrated import PREPARED, Quiet, replay

from bench.migrate import applying, bringing, migration, progress, sources
from bench.migrate.progress import Progress
from bench.migrate.targets import target_for
from bench.stores import schema
from bench.stores.url import StoreUrl, parse

TARGET = "TRACKBENCH_TESTS_TARGET"


def main(point: str, number: int, source: str) -> None:
    """Migrate, and end there."""
    url = parse(os.environ[TARGET])
    kind: Any = type(target_for(url))
    kind.large, kind.part, kind.batch = 100, 150, 50

    async def quickly(url: StoreUrl, *_: object) -> None:
        await asyncio.to_thread(replay, url, Path(os.environ[PREPARED]))

    schema.create_at = quickly  # type: ignore[assignment]
    of: dict[str, tuple[Any, str]] = {
        "snapshot": (sources, "take_snapshot"),
        "preflight": (migration, "preflight"),
        "prepared": (kind, "prepare"),
        "begun": (Progress, "create"),
        "schema": (schema, "create_at"),
        "emptied": (kind, "empty"),
        "deferred": (kind, "defer"),
        "saved": (Progress, "save"),
        "sent": (kind, "send"),
        "restored": (kind, "restore"),
        "numbered": (kind, "number"),
        "settled": (kind, "settle"),
        "applied": (bringing, "apply"),
        "parked": (applying._Work, "park"),
        "changed": (kind, "change"),
        "proved": (bringing, "prove_rows"),
        "removed": (progress, "remove"),
    }
    place, name = of[point]
    setattr(place, name, ending(getattr(place, name), number))
    asyncio.run(migration.migrate(source, url, migration.Options(client=False), Quiet()))


def ending(call: Callable[..., Any], number: int) -> Callable[..., Any]:
    """``call``, after whose end the process is killed at the ``number``-th time."""
    calls = 0

    async def ended(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        found = await call(*arguments, **named)
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    return ended


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
