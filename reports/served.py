"""The tables of what only a tracking server shows: whether it could be used, and how long one experiment takes."""

from bench.cell import Probe
from bench.results import Results
from reports.details import LABEL_HEADS, Table, in_order, label
from reports.figures import count, duration, share
from reports.rows import PHASES


def availability(results: Results) -> Table:
    """Health and search beside the load: how many probes answered well, and how soon."""
    heads = (*LABEL_HEADS, "available", "probes", "health ok", "health p95", "search ok", "search p95")
    rows = [
        (*label(cell), share(found.share), count(found.n), *_probe(found.health), *_probe(found.search))
        for cell in in_order(results)
        if (found := cell.availability)
    ]
    return Table(heads, tuple(rows), numeric=3)


def _probe(found: Probe) -> tuple[str, str]:
    return f"{count(found.ok)} of {count(found.n)}", duration(found.p95_ms)


def phases(results: Results) -> Table:
    """The parts of one experiment, and how many runs did not finish."""
    heads = (*LABEL_HEADS, *PHASES.values(), "runs unfinished")
    rows = [
        (*label(cell), *(duration(cell.phases_ms.get(name)) for name in PHASES), count(cell.runs_unfinished))
        for cell in in_order(results)
        if cell.phases_ms or cell.runs_unfinished is not None
    ]
    return Table(heads, tuple(rows), numeric=3)
