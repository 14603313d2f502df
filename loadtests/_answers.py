"""What an answer means: whether the operation was done, and which error kept it from being done."""

import json
import re
from typing import NamedTuple

from bench.outcome import ErrorKind, Outcome

_LABELS = {kind.label: kind for kind in ErrorKind}
_GATEWAY = {408: ErrorKind.TIMEOUT, 504: ErrorKind.TIMEOUT, 502: ErrorKind.CONNECTION}

# On a server that is not ours the code is known only from the text that SQLAlchemy puts into its message.
_TEXTS = [
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        (ErrorKind.POOL_EXHAUSTED, r"QueuePool limit"),
        (ErrorKind.SQLITE_LOCKED, r"database table is locked"),
        (ErrorKind.SQLITE_BUSY, r"database is locked"),
        (ErrorKind.PG_40P01_DEADLOCK, r"DeadlockDetected|psycopg\S*\) deadlock detected"),
        (ErrorKind.PG_40001_SERIALIZATION, r"SerializationFailure|could not serialize access"),
        (ErrorKind.PG_55P03_LOCK_NOT_AVAILABLE, r"LockNotAvailable|due to lock timeout|could not obtain lock"),
        (ErrorKind.MYSQL_1205_LOCK_WAIT_TIMEOUT, r"\(1205,|Lock wait timeout exceeded"),
        (ErrorKind.MYSQL_1213_DEADLOCK, r"\(1213,|Deadlock found when trying"),
        (ErrorKind.MYSQL_3572_NOWAIT, r"\(3572,"),
        (ErrorKind.DISK_FULL, r"database or disk is full|No space left on device|DiskFull"),
        (ErrorKind.READ_ONLY, r"read-only transaction|\(1290,|attempt to write a readonly database"),
        (ErrorKind.CONSTRAINT, r"IntegrityError|UNIQUE constraint failed|duplicate key value|Duplicate entry"),
        (ErrorKind.CONNECTION, r"server closed the connection|Lost connection|gone away|Connection refused"),
        (ErrorKind.TIMEOUT, r"statement timeout|timed out"),
    )
]


class Judged(NamedTuple):
    """How an attempt ended."""

    outcome: Outcome
    kind: ErrorKind


def refusal(status: int, body: bytes, errors: str, counted: bool, parts: int) -> Judged:
    """How an attempt ended that was answered, but not with 2xx.

    ``errors`` is what our tracking server says in its header, ``counted`` whether the server is ours, ``parts`` how
    many transactions the server makes of the operation (0: it only reads, and leaves nothing in doubt).
    """
    kinds = _named(errors) if counted else _read(body)
    kind = kinds[-1] if kinds else _GATEWAY.get(status, ErrorKind.OTHER)
    if status >= 500:  # also a proxy's, which knows nothing: certain only with an error that undoes its transaction
        undone = bool(kinds) and all(one.is_lock or one is ErrorKind.POOL_EXHAUSTED for one in kinds)
    else:
        undone = status not in _GATEWAY and not any(one.leaves_doubt for one in kinds)
    certain = parts == 0 or (parts == 1 and undone)
    return Judged(Outcome.FAIL if certain else Outcome.INFO, kind)


def _named(errors: str) -> list[ErrorKind]:
    """The labels in our server's header; one that we don't know is an error like any other."""
    return [_LABELS.get(label.strip(), ErrorKind.OTHER) for label in errors.split(",") if label.strip()]


def _read(body: bytes) -> list[ErrorKind]:
    """The first error that the message of an answer tells of."""
    try:
        message = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        message = body.decode(errors="replace")
    return next(([kind] for kind, pattern in _TEXTS if pattern.search(message)), [])
