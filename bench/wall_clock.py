"""The wall clock of this process alone, set wrong on purpose: what a step of the machine's clock would do to a load.

Times are taken from a monotonic clock, and what is written follows from its identity; so nothing but log lines should
change. The host's own clock is never touched.
"""

import time

_time, _time_ns = time.time, time.time_ns


def step(seconds: float) -> None:
    """Let `time.time` and `time.time_ns` be so many seconds ahead of the true time (behind it, if negative)."""
    offset_ns = round(seconds * 1e9)
    time.time = lambda: _time() + seconds
    time.time_ns = lambda: _time_ns() + offset_ns
