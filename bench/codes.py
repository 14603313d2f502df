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
    "25006": ErrorKind.READ_ONLY,
    **dict.fromkeys(("25P03", "25P04"), ErrorKind.CONNECTION),  # a transaction's time was up: the server hung up
}
_SQLSTATE_CLASSES = {"08": ErrorKind.CONNECTION, "57": ErrorKind.CONNECTION, "23": ErrorKind.CONSTRAINT}
_MYSQL = {
    1205: ErrorKind.MYSQL_1205_LOCK_WAIT_TIMEOUT,
    1213: ErrorKind.MYSQL_1213_DEADLOCK,
    3572: ErrorKind.MYSQL_3572_NOWAIT,
    **dict.fromkeys((1969, 3024), ErrorKind.TIMEOUT),  # MariaDB's, MySQL's
    **dict.fromkeys((1040, 1203, 1226), ErrorKind.POOL_EXHAUSTED),
    **dict.fromkeys((3, 20, 1021, 1026, 1114), ErrorKind.DISK_FULL),  # 3 and 1026: a file could not be written
    **dict.fromkeys((1290, 1792, 1836), ErrorKind.READ_ONLY),
    **dict.fromkeys((1053, *range(1077, 1081)), ErrorKind.CONNECTION),  # the server shuts down
    **dict.fromkeys((1317, 1927, 3169, 4031), ErrorKind.CONNECTION),  # it has ended the session
    **dict.fromkeys((1158, 1159, 1160, 1161, 1184), ErrorKind.CONNECTION),  # it has lost the client
    **dict.fromkeys((2002, 2003, 2006, 2012, 2013, 2055), ErrorKind.CONNECTION),  # the client has lost it
    **dict.fromkeys((1048, 1062, 1406, 1451, 1452, 3819), ErrorKind.CONSTRAINT),
}
_SQLITE = {
    sqlite3.SQLITE_BUSY: ErrorKind.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED: ErrorKind.SQLITE_LOCKED,
    sqlite3.SQLITE_CONSTRAINT: ErrorKind.CONSTRAINT,
    sqlite3.SQLITE_FULL: ErrorKind.DISK_FULL,
    sqlite3.SQLITE_CANTOPEN: ErrorKind.CONNECTION,
    sqlite3.SQLITE_READONLY: ErrorKind.READ_ONLY,
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
