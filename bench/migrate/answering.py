"""The process of a `bench.migrate.reader`: MLflow is imported here, and may write nowhere."""

from __future__ import annotations

import json
import logging
import os
import queue
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.migrate.client import Sample
from bench.migrate.reader import VARIABLES, Refused

if TYPE_CHECKING:
    from bench.migrate.client_view import Opened


class Answers:
    """The answers to orders, for one source and one target, each opened when it is first needed."""

    def __init__(self, source: str, target: str) -> None:
        self._uris = (source, target)
        self._opened: list[Opened] = []

    def __call__(self, order: str, arguments: dict[str, Any]) -> Any:
        """The answer to an order: one of the methods below."""
        answers: dict[str, Callable[..., Any]] = {
            "open": self.open,
            "client": self.client,
            "artifacts": self.artifacts,
            "rights": self.rights,
        }
        return answers[order](**arguments)

    def open(self) -> None:
        """Both stores are seen as they are now."""
        source, _ = self._sides()
        source.engine  # noqa: B018 (waits for it)

    def client(self, **sample: int) -> Any:
        """Differences and counts."""
        from bench.migrate import client_view

        return client_view.compare(*self._sides(), Sample(**sample))

    def artifacts(self, most: int, server: str | None, folder: str) -> Any:
        """What is at addresses in the target."""
        from bench.migrate import artifacts_view

        _, target = self._sides()
        target.engine  # noqa: B018
        return artifacts_view.look(target, most, server, Path(folder))

    def rights(self) -> Any:
        """Differences and counts of authentication databases."""
        from bench.migrate import rights_view

        return rights_view.compare(*self._uris)

    def _sides(self) -> tuple[Opened, Opened]:
        from bench.migrate.client_view import Opened

        if not self._opened:
            self._opened = [Opened(uri) for uri in self._uris]
        source, target = self._opened
        return source, target


def _main() -> None:
    orders: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_take_orders, args=(orders,), daemon=True).start()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever MLflow prints is no answer
    logging.disable(logging.WARNING)
    from bench.migrate import frozen

    frozen.freeze_mlflow()
    answer = Answers(*(os.environ[name] for name in VARIABLES))
    while True:
        order, arguments = json.loads(orders.get())
        try:
            reply = [None, answer(order, arguments)]
        except Refused as refusal:
            reply = [str(refusal), None]
        answers.write(json.dumps(reply) + "\n")
        answers.flush()


def _take_orders(orders: queue.SimpleQueue[str]) -> None:
    """End with the owner, also in the middle of the import or of an answer."""
    for line in sys.stdin:
        orders.put(line)
    os._exit(1)


if __name__ == "__main__":
    _main()
