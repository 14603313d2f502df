"""What databases' error codes mean: the one table for direct drivers and for the hooks in the tracking server.

A code decides, never a text. Codes that are not listed are `ErrorKind.OTHER`.
"""

import sqlite3

from bench.outcome import ErrorKind

_SQLSTATES = {
    "40001": ErrorKind.PG_40001_SERIALIZATION,
    "40P01": ErrorKind.PG_40P01_DEADLOCK,
    "55P03": ErrorKind.PG_55P03_LOCK_NOT_AVAILABLE,
    "57014": ErrorKind.TIMEOUT,
    "53300": ErrorKind.POOL_EXHAUSTED,
    "53100": ErrorKind.DISK_FULL,
}
_SQLSTATE_CLASSES = {"08": ErrorKind.CONNECTION, "57": ErrorKind.CONNECTION, "23": ErrorKind.CONSTRAINT}
_MYSQL = {
    1205: ErrorKind.MYSQL_1205_LOCK_WAIT_TIMEOUT,
    1213: ErrorKind.MYSQL_1213_DEADLOCK,
    3572: ErrorKind.MYSQL_3572_NOWAIT,
    3024: ErrorKind.TIMEOUT,
    **dict.fromkeys((1040, 1203, 1226), ErrorKind.POOL_EXHAUSTED),
    1021: ErrorKind.DISK_FULL,
    1114: ErrorKind.DISK_FULL,
    **dict.fromkeys((1053, 2003, 2006, 2013, 2055), ErrorKind.CONNECTION),
    **dict.fromkeys((1048, 1062, 1406, 1451, 1452, 3819), ErrorKind.CONSTRAINT),
}
_SQLITE = {
    sqlite3.SQLITE_BUSY: ErrorKind.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED: ErrorKind.SQLITE_LOCKED,
    sqlite3.SQLITE_CONSTRAINT: ErrorKind.CONSTRAINT,
    sqlite3.SQLITE_FULL: ErrorKind.DISK_FULL,
    sqlite3.SQLITE_CANTOPEN: ErrorKind.CONNECTION,
}


def of_sqlstate(state: str) -> ErrorKind:
    """PostgreSQL's five letters; the first two name a class."""
    return _SQLSTATES.get(state) or _SQLSTATE_CLASSES.get(state[:2], ErrorKind.OTHER)


def of_mysql(number: int) -> ErrorKind:
    """An error number of MySQL or MariaDB, the client library's (2000 to 2999) among them."""
    return _MYSQL.get(number, ErrorKind.OTHER)


def of_sqlite(code: int) -> ErrorKind:
    """SQLite's extended result code: its lowest byte is the plain code."""
    if code == sqlite3.SQLITE_BUSY_SNAPSHOT:
        return ErrorKind.SQLITE_BUSY_SNAPSHOT
    return _SQLITE.get(code & 0xFF, ErrorKind.OTHER)
