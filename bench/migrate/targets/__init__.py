"""What a database must offer to be copied into: one file a database."""

from importlib import import_module
from typing import Final

from bench.migrate.targets.base import Deferred, Gone, Target
from bench.stores.url import StoreUrl

__all__ = ["Deferred", "Gone", "Target", "target_for"]

_CLASSES: Final = {
    "sqlite": ("bench.migrate.targets.sqlite", "SqliteTarget"),
    "postgresql": ("bench.migrate.targets.postgresql", "PostgresqlTarget"),
    "timescaledb": ("bench.migrate.targets.timescaledb", "TimescaledbTarget"),
    "mysql": ("bench.migrate.targets.mysql", "MysqlTarget"),
    "mariadb": ("bench.migrate.targets.mysql", "MysqlTarget"),
}


def target_for(url: StoreUrl) -> Target:
    """The target at ``url``, not opened yet; its driver is imported only now."""
    module, name = _CLASSES[url.store]
    found: Target = getattr(import_module(module), name)(url)
    return found
