"""What ends a command, and with which exit code (docs/design.md, "The command line")."""

from enum import IntEnum


class ExitCode(IntEnum):
    """The process exit codes that `trackbench` promises."""

    PASS = 0
    FAIL = 1
    BAD_INPUT = 2
    INCONCLUSIVE = 3
    INTEGRITY = 4
    INTERRUPTED = 130
    TERMINATED = 143


class BadInput(Exception):
    """Input or surroundings that the user must mend; the message is one line: what, where, how to mend it."""
