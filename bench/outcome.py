"""How an operation ended, and why: the vocabulary that writers, ledger, samples and judge share."""

from enum import IntEnum


class Outcome(IntEnum):
    """Status of one commit in the ledger, and of one operation in the samples (one byte each).

    ``UNTOUCHED`` and ``RESERVED`` appear in the ledger only: a commit that was never sent, and one that was
    about to be sent when its writer last wrote to the ledger. ``SKIPPED`` appears in samples only: an arrival of an
    open loop that was never sent, since its latency limit had passed before a writer was free.
    """

    UNTOUCHED = 0
    RESERVED = 1
    OK = 2
    FAIL = 3
    INFO = 4
    SKIPPED = 5


class ErrorKind(IntEnum):
    """Why an attempt failed, read from the driver's error code and never from its text."""

    NONE = 0
    SQLITE_BUSY = 1
    SQLITE_BUSY_SNAPSHOT = 2
    SQLITE_LOCKED = 3
    PG_40001_SERIALIZATION = 4
    PG_40P01_DEADLOCK = 5
    PG_55P03_LOCK_NOT_AVAILABLE = 6
    MYSQL_1205_LOCK_WAIT_TIMEOUT = 7
    MYSQL_1213_DEADLOCK = 8
    MYSQL_3572_NOWAIT = 9
    TIMEOUT = 10
    POOL_EXHAUSTED = 11
    CONNECTION = 12
    CONSTRAINT = 13
    DISK_FULL = 14
    OTHER = 15
    READ_ONLY = 16

    @property
    def label(self) -> str:
        """The name that reports and results.json use."""
        return self.name.lower()

    @property
    def is_lock(self) -> bool:
        """Whether this is a lock error in the sense of the vocabulary."""
        return ErrorKind.SQLITE_BUSY <= self <= ErrorKind.MYSQL_3572_NOWAIT

    @property
    def is_deadlock(self) -> bool:
        """Whether the database chose this attempt as a deadlock's victim."""
        return self in (ErrorKind.PG_40P01_DEADLOCK, ErrorKind.MYSQL_1213_DEADLOCK)

    @property
    def leaves_doubt(self) -> bool:
        """Whether a commit that ended so may still have been carried out.

        Full disks are among them: MySQL may meet one while it writes down what it has already committed.
        """
        return self in (ErrorKind.TIMEOUT, ErrorKind.CONNECTION, ErrorKind.DISK_FULL, ErrorKind.OTHER)
