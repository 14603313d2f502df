"""What is known of a load while it runs: ticks added up, by operation and by second.

A tick is what `bench.frames.summary` makes of 200 ms. Ticks add exactly, whatever process and machine they come from,
because their latencies are histograms of common buckets.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.histogram import Histogram
from bench.outcome import ErrorKind

Tick = Mapping[str, Any]
_LATE_S = 5  # how much later than it happened another machine may tell of a second
KINDS = {kind.label: kind for kind in ErrorKind}


@dataclass
class Operations:
    """Some operations: by outcome, the metrics that the ok ones stored, and the latency of those."""

    ok: int = 0
    failed: int = 0
    unknown: int = 0
    metrics: int = 0
    sum_ns: int = 0
    max_ns: int = 0
    latency: Histogram = field(default_factory=Histogram)

    @property
    def n(self) -> int:
        """All of them."""
        return self.ok + self.failed + self.unknown

    def add(self, told: Tick) -> None:
        """Add one operation's part of a tick."""
        self.ok += told["ok"]
        self.failed += told["failed"]
        self.unknown += told["unknown"]
        self.metrics += told["metrics"]
        self.sum_ns += told["sum_ns"]
        self.max_ns = max(self.max_ns, told["max_ns"])
        self.latency.add(told["buckets"])

    def told(self) -> dict[str, Any]:
        """As a tick has it."""
        counts = {str(bucket): n for bucket, n in self.latency.counts.items()}
        plain = {name: getattr(self, name) for name in ("ok", "failed", "unknown", "metrics", "sum_ns", "max_ns")}
        return {**plain, "buckets": counts}


class Totals:
    """Ticks added up."""

    def __init__(self) -> None:
        self.operations: dict[str, Operations] = {}
        self.errors: Counter[str] = Counter()

    def add(self, tick: Tick) -> None:
        """Add a tick, or other totals as `told` gives them."""
        for name, told in tick["operations"].items():
            self.operations.setdefault(name, Operations()).add(told)
        self.errors.update(tick["errors"])

    def told(self) -> dict[str, Any]:
        """In a tick's form, to be sent and added elsewhere."""
        return {
            "operations": {name: one.told() for name, one in self.operations.items()},
            "errors": dict(self.errors),
        }

    @property
    def all(self) -> Operations:
        """Every operation together."""
        return self.of(list(self.operations))

    def of(self, names: list[str]) -> Operations:
        """The operations of these names together."""
        whole = Operations()
        for name in names:
            if one := self.operations.get(name):
                whole.add(one.told())
        return whole

    @property
    def lock_errors(self) -> dict[str, int]:
        """Lock errors by kind."""
        return {label: n for label, n in self.errors.items() if KINDS[label].is_lock}


@dataclass(frozen=True)
class Point:
    """One second of a chart; latencies in ms, None where nothing ended."""

    second: int
    metrics: int
    operations: int
    lock_errors: int
    p50_ms: float | None
    p99_ms: float | None


class Live:
    """A load as it stands: all of it, the measured part, and a chart's points. Times are those of the wall clock."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.whole = Totals()
        self.measured = Totals()
        self.measured_from: float | None = None
        self.measured_to: float | None = None
        self._seconds: dict[int, Totals] = {}
        self._points: list[Point] = []  # of seconds that nothing is added to any more

    def add(self, second: int, tick: Tick) -> None:
        """Add a tick of this second."""
        self.whole.add(tick)
        if self.measured_from is not None:
            self.measured.add(tick)
        number = max(second - math.floor(self.began), len(self._points))
        self._seconds.setdefault(number, Totals()).add(tick)

    def measure(self, since: float) -> None:
        """The measured time begins."""
        self.measured_from, self.measured = since, Totals()

    def stop(self, at: float) -> None:
        """The load has been told to end."""
        self.measured_to = at

    def seconds(self, now: float) -> float:
        """How long has been measured; before that, how long the load has run."""
        return max((self.measured_to or now) - (self.measured_from or self.began), 1e-9)

    @property
    def shown(self) -> Totals:
        """The measured part once there is one, before that all of it."""
        return self.whole if self.measured_from is None else self.measured

    def points(self, now: float, since: int = 0) -> list[Point]:
        """A point for every second that is over, from second ``since`` of the load on."""
        over = max(0, math.floor(self.measured_to or now) - math.floor(self.began) - 1)
        while len(self._points) < over - _LATE_S:
            number = len(self._points)
            self._points.append(_point(number, self._seconds.pop(number, Totals())))
        recent = [_point(n, self._seconds.get(n, Totals())) for n in range(len(self._points), over)]
        return [*self._points, *recent][since:]


def _point(second: int, totals: Totals) -> Point:
    whole = totals.all
    return Point(
        second,
        whole.metrics,
        whole.n,
        sum(totals.lock_errors.values()),
        whole.latency.percentile_ms(0.5),
        whole.latency.percentile_ms(0.99),
    )
