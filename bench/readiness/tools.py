"""Runs a database's own client programs; they end with their owner, also when that is killed -9."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.servers import catalogue
from bench.servers.base import binary_version

# Its stdin ends when the owner does, in whatever way; the tool's own input and output are files.
_GUARD = """
exec 3<&0
"$@" <"$TOOL_INPUT" >"$TOOL_OUTPUT" 3<&- &
tool=$!
(cat <&3 >/dev/null 2>&1; kill -9 $tool) >/dev/null 2>&1 &
exec 3<&-
wait $tool
"""
_WARNING = re.compile(r"\[Warning\]|^Warning:|: warning: ")


class ToolFailed(Exception):
    """A tool ended with an error; the message is its last words."""


def find(*names: str) -> Path | None:
    """The first of these programs that there is."""
    return next((found for name in names if (found := catalogue.tool(name)) is not None), None)


def version_of(program: Path) -> tuple[int, ...]:
    """Its version, as far as it says it in numbers."""
    text = binary_version(program) or ""
    numbers = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(map(int, numbers[0].split("."))) if numbers else ()


async def run(
    argv: Sequence[str | Path],
    env: Mapping[str, str],
    *,
    reads: Path | None = None,
    writes: Path | None = None,
) -> None:
    """Run a tool; ``env`` is laid over ours and may hold a password, which ``argv`` may not.

    Raises:
        ToolFailed: it ended with an error.
    """
    files = {"TOOL_INPUT": str(reads or os.devnull), "TOOL_OUTPUT": str(writes or os.devnull)}
    process = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", _GUARD, "guard", *map(str, argv),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"LC_ALL": "C"} | dict(env) | files, start_new_session=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stderr is not None
    try:
        said = await process.stderr.read()
        await process.wait()
    finally:
        process.stdin.close()  # whatever still runs ends now
    if process.returncode != 0:
        lines = [line.strip() for line in said.decode(errors="replace").splitlines() if line.strip()]
        telling = [line for line in lines if not _WARNING.search(line)] or lines or ["no message"]
        raise ToolFailed(f"{Path(argv[0]).name}: {telling[0][:300]}")
