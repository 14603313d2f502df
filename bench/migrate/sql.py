"""The few statements that a copy and a proof need, for tables and columns that only reflection knows."""

from __future__ import annotations

from collections.abc import Sequence

from bench.migrate.catalog import Column, Kind

_MYSQL = ("mysql", "mariadb")


def quoted(store: str, name: str) -> str:
    """``name`` as an identifier in the SQL of ``store``."""
    mark = "`" if store in _MYSQL else '"'
    return f"{mark}{name.replace(mark, mark * 2)}{mark}"


def listed(store: str, names: Sequence[str]) -> str:
    """``names`` as a list of identifiers."""
    return ", ".join(quoted(store, name) for name in names)


def read(store: str, column: Column) -> str:
    """The expression whose value is exactly the column's.

    MySQL shows a FLOAT with six digits, whatever it holds; as a double it shows them all.
    """
    name = quoted(store, column.name)
    return f"CAST({name} AS DOUBLE)" if column.kind is Kind.SINGLE and store in _MYSQL else name


def select(store: str, table: str, columns: Sequence[Column]) -> str:
    """All rows of ``table``, in whatever order the database gives them."""
    return f"{ordered(store, table, columns)}{' NOT INDEXED' if store == 'sqlite' else ''}"


def ordered(store: str, table: str, columns: Sequence[Column]) -> str:
    """The same; add a WHERE or an ORDER BY to it.

    Without either, SQLite may give the rows of an index instead of the table's, and a damaged one has others.
    """
    return f"SELECT {', '.join(read(store, column) for column in columns)} FROM {quoted(store, table)}"
