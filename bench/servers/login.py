"""One login over TCP, as clients make it: the only proof that a server is ready (an open port is none)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bench.servers.base import Kind

_MOST_SECONDS = 5

# With TimescaleDB's version where it is preloaded; else the server's alone.
_VERSION = """
    SELECT current_setting('server_version') || coalesce(
        (SELECT ', TimescaleDB ' || default_version FROM pg_available_extensions WHERE name = 'timescaledb'
            AND current_setting('shared_preload_libraries') LIKE '%timescaledb%'), '')
"""


@dataclass(frozen=True)
class Answer:
    """What a server says of itself."""

    version: str  # "18.6 (Debian 18.6-3)", "9.7.4-2", "10.11.18-MariaDB-…"
    is_mariadb: bool


def log_in(
    kind: Kind, host: str, port: int, user: str, password: str, within_s: float = _MOST_SECONDS
) -> Answer | None:
    """Log in once; None if that was not possible (yet). Waits ``within_s`` seconds at most, in whole ones."""
    seconds = max(1, math.ceil(min(within_s, _MOST_SECONDS)))
    if kind in ("postgresql", "timescaledb"):
        return _postgresql(host, port, user, password, seconds)
    return _mysql(host, port, user, password, seconds)


def _postgresql(host: str, port: int, user: str, password: str, seconds: int) -> Answer | None:
    import psycopg2  # type: ignore[import-untyped]

    try:
        connection = psycopg2.connect(
            host=host, port=port, user=user, password=password, dbname="postgres", connect_timeout=seconds
        )
    except psycopg2.OperationalError:
        return None
    try:
        with connection.cursor() as cursor:
            cursor.execute(_VERSION)
            row = cursor.fetchone()
            return Answer(str(row[0]) if row else "", is_mariadb=False)
    except psycopg2.Error:
        return None
    finally:
        connection.close()


def _mysql(host: str, port: int, user: str, password: str, seconds: int) -> Answer | None:
    import pymysql

    try:
        connection = pymysql.connect(
            host=host, port=port, user=user, password=password, connect_timeout=seconds, read_timeout=seconds
        )
    except (pymysql.MySQLError, OSError, RuntimeError):  # RuntimeError: no public key from a half-open server
        return None
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT VERSION()")
            row = cursor.fetchone()
            version = str(row[0]) if row else ""
            return Answer(version, is_mariadb="mariadb" in version.lower())
    except (pymysql.MySQLError, OSError):
        return None
    finally:
        connection.close()
