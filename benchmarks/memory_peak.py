"""The most memory that a process and all below it had at one time, looked at every 50 ms."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Final, Self

import psutil

_EVERY_S: Final = 0.05
_MLFLOW: Final = ("bench.stores.schema", "bench.migrate.answering", "bench.migrate.upgrader")


class Peak:
    """Samples while it is entered. ``bytes`` leaves MLflow's own processes out, whose most is ``mlflow_bytes``.

    Pages that processes share count once in all, where the system tells it (PSS, on Linux), else once for each.
    ``parts`` are the bytes of each process when all together had most, the largest first.
    """

    def __init__(self, pid: int) -> None:
        self.bytes = 0
        self.mlflow_bytes = 0
        self.parts: list[int] = []
        self._root = psutil.Process(pid)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(_EVERY_S):
            self._look()

    def _look(self) -> None:
        try:
            family = [self._root, *self._root.children(recursive=True)]
        except psutil.Error:
            return
        theirs = {process for process in family if _is_mlflow(process)}
        mlflow = sum(_taken(process) for process in theirs)
        ours = sorted((_taken(process) for process in family if process not in theirs), reverse=True)
        self.mlflow_bytes = max(self.mlflow_bytes, mlflow)
        if sum(ours) > self.bytes:
            self.bytes, self.parts = sum(ours), ours


def _taken(process: psutil.Process) -> int:
    try:
        found = process.memory_full_info()
        return int(getattr(found, "pss", 0) or found.rss)
    except psutil.Error:  # it has ended
        return 0


def _is_mlflow(process: psutil.Process) -> bool:
    """Whether it is a process that imports MLflow to make or upgrade its schema, or to read with its client."""
    try:
        words = " ".join(process.cmdline())
    except psutil.Error:
        return False
    return any(module in words for module in _MLFLOW)
