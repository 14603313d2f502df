"""The command `trackbench calibrate`."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from bench.errors import BadInput
from bench.signals import until_signal

if TYPE_CHECKING:  # heavy libraries are imported where they are used
    from rich.console import Console

    from bench.calibrate import Calibration, Twins

_MOST_ROUNDS, _LONGEST_S = 200, 60.0
_PLAIN_EVERY = 10  # trials between two plain lines
_LABEL = 11
ROUNDS, DURATION_S = 10, 0.8


def _seconds(_: click.Context, __: click.Parameter, value: float) -> float:
    if not 0.1 <= value <= _LONGEST_S:  # NaN is neither
        raise BadInput(f"--duration {value}: must be between 0.1 and {_LONGEST_S:g} seconds")
    return value


@click.command()
@click.option("--rounds", type=click.IntRange(2, _MOST_ROUNDS), default=ROUNDS, show_default=True, metavar="K",
              help="Rounds in which the twins are compared.")  # fmt: skip
@click.option("--duration", type=float, callback=_seconds, default=DURATION_S, show_default=True, metavar="SECONDS",
              help="Measured time of each trial. Longer trials are less noisy, here as in a run.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def calibrate(rounds: int, duration: float, as_json: bool) -> None:
    """Test the harness on this machine: its clock, its recorder, and the smallest difference that it sees here.

    The same load is measured twice in each round, on private stores: what such twins differ by is noise. Takes about a
    minute; leaves nothing. Exit codes: 0 sound, 3 the harness is wrong or could not be judged, 4 data not intact.
    """
    from rich.console import Console

    from bench import calibrate as calibration

    progress = _Progress(Console(stderr=True, soft_wrap=True))
    with progress.shown():
        found = until_signal(lambda: calibration.calibrate(rounds, duration, progress.say, progress.step))
    if as_json:
        click.echo(json.dumps(found.told(), indent=1, allow_nan=False))
    else:
        show(found, Console(soft_wrap=True))
    raise SystemExit(found.exit_code)


class _Progress:
    """One live line while trials run, on a terminal; else a plain line now and then.

    While the harness times itself nothing is drawn: the live line has a thread of its own.
    """

    def __init__(self, console: Console) -> None:
        from rich.status import Status

        self._console = console
        self._status = Status("", console=console) if console.is_terminal else None
        self._steps = 0

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Take the live line away at the end."""
        try:
            yield
        finally:
            if self._status is not None:
                self._status.stop()

    def say(self, text: str) -> None:
        """A part begins."""
        self._console.print(text, highlight=False, markup=False)

    def step(self, text: str) -> None:
        """A trial begins."""
        if self._status is not None:
            self._status.update(text)
            self._status.start()
        elif self._steps % _PLAIN_EVERY == 0:
            self.say(text)
        self._steps += 1


def show(found: Calibration, console: Console) -> None:
    """Print the findings, the twins (a table on a terminal), what is wrong, and the last line in words."""
    for label, text in _lines(found):
        click.echo(f"{label:<{_LABEL}}{text}")
    click.echo("")
    if console.is_terminal:
        _show_table(found, console)
    else:
        for one in found.twins:
            click.echo(_plain_row(one))
    click.echo(f"(seen: told from none at 90 % confidence in 4 runs of 5, in trials of {found.duration_s:g} s)")
    for problem in (*found.broken, *found.faults):
        click.echo(f"WRONG: {problem}")
    if found.caveats:
        click.echo(f"Not a quiet machine: {'; '.join(found.caveats)}. Left alone, it sees more with the same rounds.")
    click.echo(found.sentence)


def _lines(found: Calibration) -> Iterator[tuple[str, str]]:
    from bench.calibrate import percent
    from bench.histogram import ERROR

    seen, recorded = found.machine, found.recording
    load = ", ".join(f"{value:.2f}" for value in found.load_average)
    others = "unknown" if seen.others_share is None else percent(seen.others_share)
    stolen = "" if not seen.steal_share else f", the hypervisor up to {percent(seen.steal_share)}"
    clock = f"stepped by {seen.clock_step_ms:.0f} ms" if seen.clock_step_ms else "steady"
    yield "machine", f"{found.environment['cores']} cores, {found.environment['processor']}"
    yield "", f"load average {load}; others used {others} of the CPU during the trials{stolen}"
    yield "speed", f"fixed arithmetic {_range(seen.spin_ms)} ms, 4 KiB write with fsync {_range(seen.sync_ms)} ms"
    yield "clock", f"{clock}; step {found.timer.step_ns} ns, a reading {found.timer.call_ns:.0f} ns"
    for one in found.wakeups:
        yield (
            "wake-up",
            f"{one.timer}, {one.rate:,}/s: late by {one.median_ms:.3f} ms (median), {one.p99_ms:.3f} ms (p99)",
        )
    intact = "equal to the ns" if not recorded.wrong else f"{recorded.wrong:,} wrong"
    yield "recorder", f"{recorded.cost_ns:.0f} ns a sample; {recorded.n:,} known samples came back: {intact}"
    yield "histogram", f"off by at most {found.histogram_error:.2%} of the exact percentile (stated {ERROR:.1%})"


def _range(values: list[float]) -> str:
    if not values:
        return "unknown"
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _row(one: Twins) -> list[str]:
    """The text of each column; "?" is what could not be measured."""
    from bench.calibrate import LEVELS, percent

    figure, unit, digits = ("metrics/s", "", 0) if one.field == "metrics_per_s" else ("p99", " ms", 2)
    return [
        f"{one.store} at {one.writers}",
        figure,
        "too few operations" if one.value is None else f"{one.value:,.{digits}f}{unit}",
        "?" if one.ratio is None else f"{one.ratio:.3f}",
        "?" if one.noise is None else percent(one.noise),
        *("?" if one.detects is None else percent(one.detects[level]) for level in LEVELS),
    ]


def _plain_row(one: Twins) -> str:
    from bench.calibrate import LEVELS

    place, figure, value, ratio, noise, *seen = _row(one)
    found = f"{place}, {figure}: {value}"
    if one.detects is None:
        return f"{found}; too few pairs to say more"
    return f"{found}; second by first {ratio}; noise of a pair {noise}; {_slashed(LEVELS)} rounds see {_slashed(seen)}"


def _slashed(values: Iterable[object]) -> str:
    return "/".join(map(str, values))


def _show_table(found: Calibration, console: Console) -> None:
    from rich.table import Table

    from bench.calibrate import LEVELS

    first, *others = LEVELS
    table = Table(box=None, pad_edge=False)
    for heading in ("twins", "figure"):
        table.add_column(heading)
    for heading in ("mean", "second by first", "noise of a pair", f"{first} rounds see", *map(str, others)):
        table.add_column(heading, justify="right")
    for one in found.twins:
        table.add_row(*_row(one))
    console.print(table)
