"""What the master and its workers say to one another about a trial, beside what Locust says.

master -> worker   JOB      {"job", "scenario", "digest", "source"}: your part of the load
                   OPEN     {"at_ns"}: all users are there, since then on the worker's monotonic clock
                   MEASURE  the measured time begins
                   END      let operations in flight end, then say how it went
                   DROP     the load is over, whatever its state
worker -> master   TAKEN    {"part", "refused", "clocks"}: begun, or why not
                   TICKS    {"seconds": {second: totals}}: what ended since the last time
                   BROKE    {"why"}: the load can't go on
                   ENDED    an `Ending`, after the last ticks
"""

import hashlib
from functools import cache
from pathlib import Path

import bench
import loadtests

JOB, OPEN, MEASURE, END, DROP = (f"trackbench-{name}" for name in ("job", "open", "measure", "end", "drop"))
TAKEN, TICKS, BROKE, ENDED = (f"trackbench-{name}" for name in ("taken", "ticks", "broke", "ended"))


def digest(text: str) -> str:
    """A short name for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def source() -> str:
    """Names the version of Trackbench's own code: two processes with different ones must not measure together."""
    whole = hashlib.sha256()
    for package in (bench, loadtests):
        root = Path(str(package.__file__)).parent
        for path in sorted(root.rglob("*.py")):
            whole.update(path.relative_to(root).as_posix().encode() + b"\n" + path.read_bytes())
    return whole.hexdigest()[:16]
