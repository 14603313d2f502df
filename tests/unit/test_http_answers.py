"""What answers mean."""

import json

import pytest

from bench.outcome import ErrorKind, Outcome
from loadtests._answers import refusal

OK, FAIL, INFO = Outcome.OK, Outcome.FAIL, Outcome.INFO


@pytest.mark.parametrize(
    ("status", "errors", "parts", "outcome", "kind"),
    [
        (503, "sqlite_busy", 1, FAIL, ErrorKind.SQLITE_BUSY),
        (503, "mysql_1213_deadlock,mysql_1213_deadlock", 1, FAIL, ErrorKind.MYSQL_1213_DEADLOCK),
        (503, "mysql_1213_deadlock, connection", 1, INFO, ErrorKind.CONNECTION),
        (503, "connection, mysql_1213_deadlock", 1, INFO, ErrorKind.MYSQL_1213_DEADLOCK),
        (503, "disk_full", 1, INFO, ErrorKind.DISK_FULL),
        (503, "", 1, INFO, ErrorKind.OTHER),
        (500, "label_of_a_later_version", 1, INFO, ErrorKind.OTHER),
        (504, "", 1, INFO, ErrorKind.TIMEOUT),
        (502, "", 1, INFO, ErrorKind.CONNECTION),
        (400, "pool_exhausted", 1, FAIL, ErrorKind.POOL_EXHAUSTED),
        (400, "constraint", 1, FAIL, ErrorKind.CONSTRAINT),
        (400, "timeout", 1, INFO, ErrorKind.TIMEOUT),
        (400, "", 1, FAIL, ErrorKind.OTHER),
        (404, "", 1, FAIL, ErrorKind.OTHER),
        (302, "", 1, FAIL, ErrorKind.OTHER),
        (400, "pool_exhausted", 3, INFO, ErrorKind.POOL_EXHAUSTED),
        (404, "", 2, INFO, ErrorKind.OTHER),
        (500, "", 0, FAIL, ErrorKind.OTHER),
        (503, "connection", 0, FAIL, ErrorKind.CONNECTION),
    ],
)
def test_refusals_of_our_own_server(status: int, errors: str, parts: int, outcome: Outcome, kind: ErrorKind) -> None:
    assert refusal(status, b"{}", errors, True, parts) == (outcome, kind)


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("(sqlite3.OperationalError) database is locked\n[SQL: INSERT INTO metrics", ErrorKind.SQLITE_BUSY),
        ("(sqlite3.OperationalError) database table is locked: metrics", ErrorKind.SQLITE_LOCKED),
        ("(psycopg2.errors.DeadlockDetected) deadlock detected\nDETAIL: Process 1 waits", ErrorKind.PG_40P01_DEADLOCK),
        ("(psycopg2.errors.SerializationFailure) could not serialize", ErrorKind.PG_40001_SERIALIZATION),
        ("(psycopg2.errors.LockNotAvailable) canceling statement", ErrorKind.PG_55P03_LOCK_NOT_AVAILABLE),
        ("(pymysql.err.OperationalError) (1205, 'Lock wait timeout')", ErrorKind.MYSQL_1205_LOCK_WAIT_TIMEOUT),
        ("(pymysql.err.OperationalError) (1213, 'Deadlock found')", ErrorKind.MYSQL_1213_DEADLOCK),
        ("(pymysql.err.OperationalError) (3572, 'Statement aborted')", ErrorKind.MYSQL_3572_NOWAIT),
        ("QueuePool limit of size 5 overflow 10 reached, connection timed out", ErrorKind.POOL_EXHAUSTED),
        ("(psycopg2.OperationalError) server closed the connection unexpectedly", ErrorKind.CONNECTION),
        ("(pymysql.err.OperationalError) (2006, 'MySQL server has gone away')", ErrorKind.CONNECTION),
        ("(psycopg2.errors.UniqueViolation) duplicate key value violates", ErrorKind.CONSTRAINT),
        ("(sqlite3.OperationalError) database or disk is full", ErrorKind.DISK_FULL),
        ("Run 'x' not found", ErrorKind.OTHER),
    ],
)
def test_elsewhere_the_text_tells_the_kind(message: str, kind: ErrorKind) -> None:
    body = json.dumps({"error_code": "TEMPORARILY_UNAVAILABLE", "message": message}).encode()
    assert refusal(503, body, "", False, 1).kind is kind
    assert refusal(503, body, "", False, 1).outcome is (
        FAIL if kind.is_lock or kind is ErrorKind.POOL_EXHAUSTED else INFO
    )


def test_a_header_from_a_server_that_is_not_ours_says_nothing() -> None:
    assert refusal(503, b"{}", "sqlite_busy", False, 1) == (INFO, ErrorKind.OTHER)


@pytest.mark.parametrize("body", [b"", b"<html>bad gateway</html>", b"[1]", b"\xff\xfe", b'"text"'])
def test_a_body_that_is_no_message_is_no_error_of_ours(body: bytes) -> None:
    assert refusal(500, body, "", False, 1) == (INFO, ErrorKind.OTHER)
