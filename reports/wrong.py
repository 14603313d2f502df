"""The tables of what went wrong: errors as clients, server and database counted them, and rows read back."""

from collections.abc import Iterator

from bench.cell import Cell, Integrity
from bench.results import Results
from reports.details import LABEL_HEADS, Table, in_order, label
from reports.figures import NOT_MEASURED, count, one_line, printable
from reports.judged import place
from reports.rows import EQUAL, PARTED, doors, hidden

_COUNTS = ("attempted", "acknowledged", "stored", "lost", "duplicated", "corrupted", "unexpected", "recovered")


def errors(results: Results) -> Table:
    """Every kind of error that a cell met: what clients saw beside what the tracking server and the database count."""
    heads = (
        *LABEL_HEADS,
        "error",
        "clients saw",
        "inside the server",
        "hidden by its retries",
        "database's own count",
    )
    return Table(heads, tuple(row for cell in in_order(results) for row in _errors(cell)), numeric=6)


def _errors(cell: Cell) -> Iterator[tuple[str, ...]]:
    inside, unseen = cell.server_errors, hidden(cell)
    for kind in sorted({*cell.errors, *(inside or {})}):
        seen, met = cell.errors.get(kind, 0), None if inside is None else inside.get(kind, 0)
        counted = cell.referee.get("deadlocks") if kind.endswith("deadlock") else None
        if seen or met:
            retried = None if met is None else unseen.get(kind, 0)
            yield (*label(cell), one_line(kind), *map(count, (seen, met, retried, counted)))


def referee(results: Results) -> Table:
    """The database's own counters over each cell's trials; a dash where the store has no such counter."""
    counters = sorted({name for cell in results.cells for name, n in cell.referee.items() if n is not None})
    rows = [
        (*label(cell), count(cell.deadlocks), *(count(cell.referee.get(name)) for name in counters))
        for cell in in_order(results)
        if counters
    ]
    heads = (*LABEL_HEADS, "deadlocks that clients saw", *map(one_line, counters))
    return Table(heads, tuple(rows), numeric=3)


def integrity(results: Results) -> Table:
    """What became of every commit, cell by cell and door by door."""
    invariants = sorted({name for cell in results.cells for each in _checks(cell).values() for name in each.invariants})
    heads = (*LABEL_HEADS, "read by", "result", *_COUNTS, "indeterminate", *map(one_line, invariants))
    rows = [
        (*label(cell), door, *_checked(found, invariants))
        for cell in in_order(results)
        for door, found in _checks(cell).items()
    ]
    return Table(heads, tuple(rows), numeric=7)


def _checks(cell: Cell) -> dict[str, Integrity]:
    """The checks of a cell by the door that they went through."""
    rest = cell.integrity_rest
    if rest is None:
        return {doors(cell): cell.integrity}
    said = {EQUAL: "REST, the same", PARTED: "REST, not the same"}.get(doors(cell), "REST")
    return {"SQL": cell.integrity, said: rest}


def _checked(found: Integrity, invariants: list[str]) -> tuple[str, ...]:
    if not found.checked:
        why = f"? not checked: {one_line(found.reason or 'no reason was recorded')}"
        return (why, *(NOT_MEASURED for _ in (*_COUNTS, "indeterminate", *invariants)))
    counts = [count(getattr(found, name)) for name in (*_COUNTS, "indeterminate")]
    violated = [count(found.invariants[name]) if name in found.invariants else NOT_MEASURED for name in invariants]
    return ("✗ broken" if found.broken else "✓ intact", *counts, *violated)


def wrong_rows(results: Results) -> list[str]:
    """The first rows found wrong, each with its cell."""
    return [
        f"{one_line(cell.candidate)}, {place(cell)}: {printable(example)}"
        for cell in in_order(results)
        for found in _checks(cell).values()
        for example in found.examples
    ]
