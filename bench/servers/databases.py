"""An empty database on a running server, for those who want one to work with."""

from __future__ import annotations

from bench.servers.running import RunningServer


def create(server: RunningServer, name: str) -> None:
    """Create the database `name` (letters and digits only); with the extension if it is TimescaleDB's."""
    if not name.isalnum():
        raise ValueError(f"not a plain name: {name!r}")
    if server.kind in ("postgresql", "timescaledb"):
        _postgresql(server, "postgres", f"CREATE DATABASE {name}")
        if server.kind == "timescaledb":
            _postgresql(server, name, "CREATE EXTENSION IF NOT EXISTS timescaledb")
    else:
        _mysql(server, f"CREATE DATABASE {name}")


def _postgresql(server: RunningServer, database: str, statement: str) -> None:
    import psycopg2  # type: ignore[import-untyped]

    connection = psycopg2.connect(
        host=server.host, port=server.port, user=server.user, password=server.password, dbname=database
    )
    try:
        connection.autocommit = True  # CREATE DATABASE refuses a transaction
        with connection.cursor() as cursor:
            cursor.execute(statement)
    finally:
        connection.close()


def _mysql(server: RunningServer, statement: str) -> None:
    import pymysql

    connection = pymysql.connect(host=server.host, port=server.port, user=server.user, password=server.password)
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
    finally:
        connection.close()
