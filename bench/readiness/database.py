"""The seam: what is asked of one kind of database. Adding one is adding a file with a `Database` and a line here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib import import_module

from bench.errors import BadInput
from bench.readiness.backup import Backup
from bench.readiness.scene import Question, Scene

_CLASSES = {
    "sqlite": ("bench.readiness.sqlite", "Sqlite"),
    "postgresql": ("bench.readiness.postgresql", "Postgresql"),
    "timescaledb": ("bench.readiness.timescaledb", "Timescaledb"),
    "mysql": ("bench.readiness.mysql", "Mysql"),
    "mariadb": ("bench.readiness.mysql", "Mariadb"),
}


class Database(ABC):
    """One kind of database under examination."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    @abstractmethod
    async def collect(self) -> None:
        """Ask what several questions need, in as few round trips as there can be; may raise the driver's errors."""

    @abstractmethod
    def questions(self) -> list[Question]:
        """All questions beside those that every database is asked, in the order in which they are shown."""

    @abstractmethod
    async def whole(self) -> int:
        """The store's size in bytes, as nearly as it is known."""

    @abstractmethod
    def backup(self) -> Backup:
        """How it is dumped and restored."""


def database_for(scene: Scene) -> Database:
    """The questions for the store of ``scene``.

    Raises:
        BadInput: nobody wrote them.
    """
    if scene.url.store not in _CLASSES:
        raise BadInput(f"{scene.url}: readiness of {scene.url.store} is not known; use {', '.join(_CLASSES)}")
    module, name = _CLASSES[scene.url.store]
    made: Database = getattr(import_module(module), name)(scene)
    return made
