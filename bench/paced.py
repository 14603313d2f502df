"""A writer of an open loop: what a writer does, each operation when it is due."""

from collections.abc import Awaitable, Callable
from typing import Any

from bench.job import Job
from bench.pacer import Pacer, Seat, skipped_code
from bench.stores.base import Store
from bench.writers import Writer

Sample = tuple[int, int, int, int]  # scheduled, start, end, code


class PacedWriter(Writer):
    """A `Writer` that takes each of its operations from ``pacer``, and ends when there are no more.

    What it takes it records, however that ends. Its time limit counts from the operation's actual start.
    """

    def __init__(self, job: Job, index: int, store: Store, record: Callable[[Sample], None], pacer: Pacer) -> None:
        super().__init__(job, index, store, self._on_schedule)
        self._recorded, self._pacer = record, pacer
        self._seat = Seat(self._skip)
        self._skipped = skipped_code(job.workload, index)
        self._due = 0  # when the operation in flight was due

    def stop(self) -> None:
        """End after the operation in flight; without one, take none."""
        super().stop()
        self._seat.leave()

    async def _operate(self, name: str, action: Callable[..., Awaitable[Any]], *arguments: Any) -> bool:
        due = await self._pacer.next(self._seat)
        if due is None:
            self.stop()
            return False
        self._due = due
        return await super()._operate(name, action, *arguments)

    def _on_schedule(self, sample: Sample) -> None:
        _, start, end, word = sample
        self._recorded((self._due, start, end, word))

    def _skip(self, due_ns: int, now_ns: int) -> None:
        self._recorded((due_ns, now_ns, now_ns, self._skipped))
