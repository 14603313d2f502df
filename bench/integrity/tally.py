"""The counts of an integrity check, and the one place that turns status bytes and stored copies into them.

The words are those of docs/design.md. Unit: one row (a metric, a param, a tag, a run, the end of a run).
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bench.cell import INTEGRITY_COUNTS
from bench.identity import I64, Flags
from bench.outcome import Outcome

MAX_EXAMPLES = 10
HALVES = "no commit half there"
"""The invariant of commits whose outcome the client does not know: all of their rows are there, or none.

Of one that was acknowledged the missing rows are lost, of one that failed those that are there are unexpected.
"""


@dataclass
class Tally:
    """Counts of rows.

    ``invariants`` holds the violations of each invariant, zeros included; ``tables`` the rows found in each table.
    """

    attempted: int = 0
    acknowledged: int = 0
    stored: int = 0
    lost: int = 0
    duplicated: int = 0
    corrupted: int = 0
    unexpected: int = 0
    recovered: int = 0
    indeterminate: int = 0
    stale: int = 0
    invariants: Counter[str] = field(default_factory=Counter)
    tables: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> int:
        """Rows and invariants found wrong."""
        return self.lost + self.duplicated + self.corrupted + self.unexpected + self.invariants.total()

    def example(self, text: str) -> None:
        """Keep the first few rows found wrong, in words."""
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append(text)

    def add(self, other: "Tally") -> None:
        """Add another tally's counts to this one's."""
        for name in INTEGRITY_COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name, violations in other.invariants.items():
            self.invariants[name] += violations
        self.tables.update(other.tables)
        for text in other.examples:
            self.example(text)

    def judge(self, status: NDArray[np.uint8], copies: NDArray[np.uint16], exact: NDArray[np.uint16]) -> Flags:
        """Count elements by status byte, stored copies and copies with the right bits; returns which are lost."""
        there = copies > 0
        unknown = (status == Outcome.RESERVED) | (status == Outcome.INFO)
        lost: Flags = (status == Outcome.OK) & ~there
        self.attempted += int(np.count_nonzero(status != Outcome.UNTOUCHED))
        self.acknowledged += int(np.count_nonzero(status == Outcome.OK))
        self.lost += int(np.count_nonzero(lost))
        self.recovered += int(np.count_nonzero(unknown & there))
        self.indeterminate += int(np.count_nonzero(unknown & ~there))
        never = (status == Outcome.UNTOUCHED) | (status == Outcome.FAIL)
        self.unexpected += int(np.count_nonzero(never & there))
        self.corrupted += int(np.count_nonzero(there & (exact == 0)))
        self.duplicated += int(np.sum(np.maximum(copies.astype(np.int64) - 1, 0)))
        return lost


def wrongs(status: NDArray[np.uint8], copies: NDArray[np.uint16]) -> Iterator[tuple[int, str]]:
    """(position, what is wrong) of elements that are absent, there too often or not to be there: the first few of each.

    Elements that are there once, with other bits, are not among them: only their rows show that.
    """
    there = copies > 0
    for wrong, words in (
        ((status == Outcome.OK) & ~there, "was acknowledged and is absent"),
        ((status == Outcome.FAIL) & there, "certainly failed and is there"),
        ((status == Outcome.UNTOUCHED) & there, "was never sent and is there"),
        (copies > 1, "is there more than once"),
    ):
        for position in np.flatnonzero(wrong)[:MAX_EXAMPLES].tolist():
            yield position, words


def halves(commits: I64, status: NDArray[np.uint8], copies: NDArray[np.uint16]) -> list[int]:
    """The commits of unknown outcome of which some rows are there and some are not; three entries a row."""
    unknown = (status == Outcome.RESERVED) | (status == Outcome.INFO)
    there = copies > 0
    found: list[int] = np.intersect1d(commits[unknown & there], commits[unknown & ~there]).tolist()
    return found
