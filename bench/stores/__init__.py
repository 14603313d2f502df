"""The stores by name. Adding a database is adding one file and one line here."""

from importlib import import_module

from bench.errors import BadInput
from bench.stores.base import Store
from bench.stores.url import StoreUrl

_CLASSES = {
    "sqlite": ("bench.stores.sqlite", "SqliteStore"),
    "postgresql": ("bench.stores.postgresql", "PostgresqlStore"),
    "timescaledb": ("bench.stores.timescaledb", "TimescaledbStore"),
    "mysql": ("bench.stores.mysql", "MysqlStore"),
    "mariadb": ("bench.stores.mysql", "MariadbStore"),
}
NAMES = tuple(_CLASSES)


def class_of(name: str) -> type[Store]:
    """The class of a store by its name; its driver is imported only now.

    Raises:
        BadInput: no store has this name.
    """
    if name not in _CLASSES:
        raise BadInput(f"unknown store {name!r}; use one of {', '.join(NAMES)}")
    module, name_of_class = _CLASSES[name]
    found: type[Store] = getattr(import_module(module), name_of_class)
    return found


def store_for(url: StoreUrl) -> Store:
    """The store that serves ``url``."""
    return class_of(url.store)(url)
