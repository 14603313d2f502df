"""What error codes mean, and which of them leave a commit in doubt."""

import sqlite3

import asyncpg
import pytest

from bench import codes
from bench.outcome import ErrorKind
from bench.stores import store_for
from bench.stores.url import StoreUrl

KINDS = {
    ErrorKind.PG_40001_SERIALIZATION: ("40001",),
    ErrorKind.PG_40P01_DEADLOCK: ("40P01",),
    ErrorKind.PG_55P03_LOCK_NOT_AVAILABLE: ("55P03",),
    ErrorKind.MYSQL_1205_LOCK_WAIT_TIMEOUT: (1205,),
    ErrorKind.MYSQL_1213_DEADLOCK: (1213,),
    ErrorKind.MYSQL_3572_NOWAIT: (3572,),
    ErrorKind.TIMEOUT: ("57014", 3024, 1969),
    ErrorKind.POOL_EXHAUSTED: ("53300", 1040, 1203, 1226),
    ErrorKind.CONNECTION: (
        *("08000", "08003", "08006", "57P01", "57P02", "57P03", "57P05", "25P03", "25P04"),
        *(1053, 1077, 1078, 1079, 1080, 1158, 1159, 1160, 1161, 1184, 1317, 1927, 3169, 4031),
        *(2002, 2003, 2006, 2012, 2013, 2055),
    ),
    ErrorKind.CONSTRAINT: ("23505", "23503", 1062, 1452),
    ErrorKind.DISK_FULL: ("53100", 3, 20, 1021, 1026, 1114),
    ErrorKind.READ_ONLY: ("25006", 1290, 1792, 1836),
    # What nobody can tell the end of: damage, trouble with files, an error in the middle of a commit.
    ErrorKind.OTHER: ("XX000", "XX001", "XX002", "58030", "58P01", "40003", "", 0, 1180, 1030, 1712, 9999),
}
SQLITE = {
    sqlite3.SQLITE_BUSY: ErrorKind.SQLITE_BUSY,
    sqlite3.SQLITE_BUSY_RECOVERY: ErrorKind.SQLITE_BUSY,
    sqlite3.SQLITE_BUSY_SNAPSHOT: ErrorKind.SQLITE_BUSY_SNAPSHOT,
    sqlite3.SQLITE_LOCKED: ErrorKind.SQLITE_LOCKED,
    sqlite3.SQLITE_CONSTRAINT_UNIQUE: ErrorKind.CONSTRAINT,
    sqlite3.SQLITE_FULL: ErrorKind.DISK_FULL,
    sqlite3.SQLITE_CANTOPEN: ErrorKind.CONNECTION,
    sqlite3.SQLITE_READONLY: ErrorKind.READ_ONLY,
    sqlite3.SQLITE_READONLY_DIRECTORY: ErrorKind.READ_ONLY,
    sqlite3.SQLITE_READONLY_DBMOVED: ErrorKind.READ_ONLY,
    sqlite3.SQLITE_IOERR_FSYNC: ErrorKind.OTHER,
    sqlite3.SQLITE_CORRUPT: ErrorKind.OTHER,
    sqlite3.SQLITE_NOTADB: ErrorKind.OTHER,
}


@pytest.mark.parametrize(("kind", "code"), [(kind, code) for kind, found in KINDS.items() for code in found])
def test_codes_of_servers(kind: ErrorKind, code: str | int) -> None:
    assert (codes.of_sqlstate(code) if isinstance(code, str) else codes.of_mysql(code)) is kind


@pytest.mark.parametrize(("code", "kind"), SQLITE.items())
def test_codes_of_sqlite(code: int, kind: ErrorKind) -> None:
    assert codes.of_sqlite(code) is kind


def test_what_leaves_a_commit_in_doubt() -> None:
    """Whatever is not certainly undone."""
    doubtful = {kind for kind in ErrorKind if kind.leaves_doubt}
    assert doubtful == {ErrorKind.TIMEOUT, ErrorKind.CONNECTION, ErrorKind.DISK_FULL, ErrorKind.OTHER}


def test_numbers_stay_what_they_were() -> None:
    """They are in the samples of earlier runs."""
    names = "none sqlite_busy sqlite_busy_snapshot sqlite_locked pg_40001_serialization pg_40p01_deadlock"
    names += " pg_55p03_lock_not_available mysql_1205_lock_wait_timeout mysql_1213_deadlock mysql_3572_nowait timeout"
    names += " pool_exhausted connection constraint disk_full other read_only"
    assert [(kind.value, kind.label) for kind in ErrorKind] == list(enumerate(names.split()))


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress"),
        asyncpg.InterfaceError("the underlying connection is closed"),
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
        asyncpg.AdminShutdownError("terminating connection due to administrator command"),
        ConnectionResetError(104, "reset"),
    ],
)
def test_how_asyncpg_says_that_the_server_is_gone(error: Exception) -> None:
    assert store_for(StoreUrl("postgresql")).classify(error) is ErrorKind.CONNECTION
