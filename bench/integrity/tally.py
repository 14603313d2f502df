"""The counts of an integrity check, and the one place that turns status bytes and stored copies into them.

The words are those of docs/design.md. Unit: one row (a metric, a param, a tag, a run, the end of a run).
"""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bench.cell import INTEGRITY_COUNTS
from bench.identity import Flags
from bench.outcome import Outcome

MAX_EXAMPLES = 10


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
