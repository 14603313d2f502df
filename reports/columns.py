"""How wide the columns of a terminal's table become: nothing cut if it can be, everything used if it must."""

from collections.abc import Sequence

from rich.cells import cell_len

GAP = 2


def longest_word(text: str) -> int:
    """The width below which ``text`` would be cut within a word."""
    return max((cell_len(word) for word in text.split()), default=0)


def all_fits(columns: Sequence[Sequence[str]], width: int) -> bool:
    """Whether no column has to wrap anything."""
    return sum(_wanted(columns)) + GAP * (len(columns) - 1) <= width


def _wanted(columns: Sequence[Sequence[str]]) -> list[int]:
    return [max(max((cell_len(line) for line in _lines(column)), default=1), 1) for column in columns]


def fit(columns: Sequence[Sequence[str]], width: int) -> list[int]:
    """A width for each column of texts: its longest where all fit in ``width``, else narrower, never below a word.

    What is left beside the longest words is shared out by how much more each column would like to have.
    """
    room = max(1, width - GAP * (len(columns) - 1))
    wanted = _wanted(columns)
    least = [max(max(map(longest_word, column), default=1), 1) for column in columns]
    if sum(wanted) <= room:
        return wanted
    if sum(least) >= room:
        return least
    spare, asked = room - sum(least), sum(wanted) - sum(least)
    return [low + spare * (high - low) // asked for low, high in zip(least, wanted, strict=True)]


def _lines(column: Sequence[str]) -> list[str]:
    return [line for text in column for line in text.splitlines()]
