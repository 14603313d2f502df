"""Shows a run's progress: one live line on a terminal, plain lines elsewhere."""

import time

from rich.console import Console
from rich.status import Status

from bench.plan import Trial
from bench.trial_record import TrialRecord

_PLAIN_EVERY = 10  # trials between two plain lines


class Progress:
    """A `bench.run.Watcher` that writes to a console. Use it as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = Status("", console=console) if console.is_terminal else None
        self._began = 0.0
        self._done = self._planned = 0

    def __enter__(self) -> "Progress":
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def say(self, text: str) -> None:
        """A line about what is being prepared."""
        self._console.print(text, highlight=False, markup=False)

    def trial_begins(self, trial: Trial, done: int, planned: int) -> None:
        """Name the trial and guess when the run will be over."""
        if done == 0:
            self._began = time.monotonic()
        self._done, self._planned = done, planned
        left = (time.monotonic() - self._began) / done * (planned - done) if done else None
        guess = (
            "" if left is None else f", about {left / 60:.0f} min left" if left > 90 else f", about {left:.0f} s left"
        )
        load = f"{trial.driver} {trial.workload} at {trial.concurrency}"
        fault = f", {trial.fault}" if trial.fault else ""
        text = f"trial {done + 1} of {planned}: {trial.candidate}, {load}{fault}{guess}"
        if self._status is not None:
            self._status.update(text)
        elif done % _PLAIN_EVERY == 0:
            self.say(text)

    def trial_ended(self, record: TrialRecord) -> None:
        """Say at once what went wrong; what went well waits for the report."""
        if record.error is not None:
            self.say(f"not measured: {record.place}: {record.error}")
        elif record.integrity.broken:
            self.say(f"integrity broken: {record.place}: {'; '.join(record.integrity.examples[:2])}")
