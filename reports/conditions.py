"""Scope of a run, noise of its machine and health of its load generator, in words."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence

from bench.cell import Cell
from bench.fault_cell import FaultCell
from bench.results import Candidate, Results
from reports import aftermath, versus
from reports.figures import duration, one_line, percent, plural, share
from reports.judged import all_cells, is_open, load_words, place
from reports.rows import PARTED, doors

QUIET, NOISY = 0.05, 0.10
"""Spread between rounds: at 5 % a 30 % loss is nearly always seen, at 10 % in every second run."""

_MOST_NAMES = 3


def scope(results: Results, candidates: list[Candidate]) -> list[tuple[str, str]]:
    """Whose data, which size, which MLflow, which road the load took."""
    run = results.run
    return [
        ("Data", _data(candidates) if results.move is None else _moved(candidates, one_line(results.move.source))),
        ("MLflow", one_line(run.mlflow_version) or "version not recorded"),
        ("Driver", _driver(_drivers(results))),
        *([("Tracking server", servers)] if (servers := _tracking(candidates)) else []),
        ("Authentication", one_line(run.authentication) or "not recorded"),
        ("Network", _network(run.network, candidates)),
        ("Load", _load(results)),
        *aftermath.scope(results),
        ("Machine", _hardware(results.environment)),
    ]


def brief(results: Results, candidates: list[Candidate], shown: list[Cell]) -> list[tuple[str, str]]:
    """The same and the machine's state in four lines, for a terminal."""
    run = results.run
    parts = [
        f"{' and '.join(_drivers(results)) or 'no'} driver",
        f"MLflow {one_line(run.mlflow_version)}" if run.mlflow_version else "",
        _sizes(candidates),
        _whose(candidates),
        f"authentication {_login(run.authentication)}" if run.authentication else "",
        _network(run.network, candidates),
        plural(run.rounds, "round"),
    ]
    return [
        ("Scope", ", ".join(part for part in parts if part)),
        *aftermath.brief(results),
        ("Machine", _hardware(results.environment, short=True)),
        *machine(results, shown),
    ]


def machine(results: Results, shown: list[Cell]) -> list[tuple[str, str]]:
    """How far the rounds of one cell lie apart, whether the generator kept up, and how rows were read back.

    A run of faults alone has no speeds, whose noise would matter: what else ran on the machine still does.
    """
    if aftermath.count_of_faults(results) and not results.cells:
        elsewhere = _elsewhere(results).removeprefix("; ")
        read = _read_back(results.faults)
        return [
            *([("Noise", f"{elsewhere}; faults are judged by what is left, not by speed")] if elsewhere else []),
            *([("Read-back", f"{read}, after the store had come back")] if read else []),
        ]
    steady = _steady(results.cells)
    return [
        ("Noise", _noise(shown, results)),
        *([("A/A control", versus.control(results.control))] if results.control else []),
        *([("Warm-up", steady)] if steady else []),
        ("Generator", _generator(results.cells)),
        *([("Read-back", read)] if (read := _read_back(results.cells)) else []),
    ]


def spread(cell: Cell) -> float | None:
    """Standard deviation between rounds of a cell's throughput on a log scale, about a relative one.

    An open loop prescribes the throughput: there it is that of the p99.
    """
    names = ("p99_ms", "p50_ms") if is_open(cell) else ("metrics_per_s", "ops_per_s")
    rates = next((found for name in names if (found := cell.per_round.get(name))), [])
    logs = [math.log(each) for each in rates if each is not None and each > 0]
    return statistics.stdev(logs) if len(logs) > 1 else None


def saturation(cells: list[Cell]) -> str:
    """A warning where the load generator could not keep up, or an empty text."""
    saturated = [cell for cell in cells if cell.generator.saturated]
    if not saturated:
        return ""
    names = [f"{one_line(cell.candidate)} {place(cell)}" for cell in saturated]
    left = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return (
        f"The load generator did not keep up in {len(saturated)} of {plural(len(cells), 'cell')} "
        f"({', '.join(names[:_MOST_NAMES])}{left}): latencies there are partly its own."
    )


def doubts(cells: list[Cell]) -> list[str]:
    """Warnings where load was lost with its process, and where MLflow and its tables show different rows."""
    lost = sum(cell.generator.lost_parts for cell in cells)
    parted = [f"{one_line(cell.candidate)} {place(cell)}" for cell in cells if doors(cell) == PARTED]
    return [
        *([f"{plural(lost, 'Locust worker')} died during the load: what it did is missing here."] if lost else []),
        *([f"MLflow's REST API and its tables show different rows ({', '.join(parted)})."] if parted else []),
    ]


def _read_back(cells: Sequence[Cell | FaultCell]) -> str:
    """Through which doors the rows were read back, and whether both showed the same; direct load has but one door."""
    if all(cell.driver == "direct" for cell in cells):
        return ""
    return ", ".join(f"{door} in {plural(n, 'cell')}" for door, n in Counter(map(doors, cells)).most_common())


def _steady(cells: list[Cell]) -> str:
    """How long the load took until its data was steady, where that was sought."""
    slowest = max(cells, key=lambda cell: cell.warmup_s or 0.0, default=None)
    if slowest is None or slowest.warmup_s is None:
        return ""
    unsteady = sum(cell.unsteady for cell in cells)
    longest = duration(slowest.warmup_s * 1000)
    said = f"steady after {longest} at the latest ({one_line(slowest.candidate)}, {place(slowest)})"
    return f"{said}; never in {plural(unsteady, 'trial')}" if unsteady else said


def _noise(shown: list[Cell], results: Results) -> str:
    spreads = sorted(((found, cell) for cell in shown if (found := spread(cell)) is not None), key=lambda each: each[0])
    if not spreads:
        return f"not measurable: it takes at least two rounds of one cell{_elsewhere(results)}"
    middle = statistics.median(found for found, _ in spreads)
    high, cell = spreads[-1]
    judged = "quiet" if middle <= QUIET else "some" if middle <= NOISY else "high"
    return (
        f"{judged}: rounds differ by {percent(middle)}, at worst {percent(high)} "
        f"({one_line(cell.candidate)}, {place(cell)}){_elsewhere(results)}"
    )


def _elsewhere(results: Results) -> str:
    """What else ran on the machine: load before the start, processor time that a hypervisor took."""
    load = _fact(results.environment, "load average at the start").partition(",")[0]
    stolen = results.machine.steal_share or 0.0
    said = [
        *([f"load {load} at start"] if load else []),
        *([f"up to {percent(stolen)} of the CPU taken by a hypervisor"] if stolen >= 0.01 else []),
    ]
    return "".join(f"; {each}" for each in said)


def _generator(cells: list[Cell]) -> str:
    if not cells:
        return "no load was generated"
    saturated = sum(cell.generator.saturated for cell in cells)
    busy = _highest(cell.generator.cpu_share for cell in cells)
    lag = _highest(cell.generator.loop_lag_p99_ms for cell in cells)
    used = [
        *([f"up to {share(busy)} of a core"] if busy is not None else []),
        *([f"event-loop lag p99 {duration(lag)}"] if lag is not None else []),
    ]
    if saturated:
        return ", ".join([f"did NOT keep up in {saturated} of {plural(len(cells), 'cell')}", *used])
    return f"kept up: {', '.join(used)}" if used else "not known: its own use was not recorded"


def _highest(values: Iterable[float | None]) -> float | None:
    return max((each for each in values if each is not None), default=None)


def _drivers(results: Results) -> list[str]:
    return sorted({cell.driver for cell in all_cells(results)}, reverse=True)  # http, which speaks for the run, first


def _data(candidates: list[Candidate]) -> str:
    if not candidates:
        return "not recorded"
    return f"generated, in {_whose(candidates)}; prefilled: {_sizes(candidates) or 'size not recorded'}"


def _moved(candidates: list[Candidate], source: str) -> str:
    """Whose data it is where a store was moved first."""
    sizes = "; ".join(f"{one_line(each.name)}: {one_line(each.prefill)}" for each in candidates if each.prefill)
    return f"yours, copied from {source}, and generated rows of the load, removed again. {sizes}".rstrip()


def _sizes(candidates: list[Candidate]) -> str:
    return "; ".join(dict.fromkeys(one_line(each.prefill) for each in candidates if each.prefill))


def _whose(candidates: list[Candidate]) -> str:
    theirs = [one_line(each.name) for each in candidates if each.theirs]
    if not theirs:
        return "private databases" if candidates else ""
    return f"your server for {', '.join(theirs)}"


def _driver(drivers: Sequence[str]) -> str:
    said = {
        "direct": "direct: MLflow's own statements on the store's tables, without an MLflow server",
        "http": "http: through a real MLflow server, as users feel it",
    }
    return "; ".join(said[each] for each in drivers) or "none: no cell was measured"


def _login(recorded: str) -> str:
    """The first of who had to log in where, which is in front of the MLflow server where there is one."""
    return one_line(recorded).partition(";")[0].removeprefix("MLflow server: ")


def _tracking(candidates: list[Candidate]) -> str:
    """The settings of the tracking servers: once where all have the same, else those of each candidate."""
    said: dict[str, list[str]] = {}
    for each in candidates:
        words = [one_line(text if name == "server" else f"{name} {text}") for name, text in each.tracking.items()]
        if words:
            said.setdefault(", ".join(words), []).append(one_line(each.name))
    return "; ".join(text if len(said) == 1 else f"{', '.join(names)}: {text}" for text, names in said.items())


def _network(recorded: str, candidates: list[Candidate]) -> str:
    theirs = [one_line(each.name) for each in candidates if each.theirs]
    said = one_line(recorded) or "not recorded"
    return f"{said} (yours for {', '.join(theirs)}, loopback for the others)" if theirs else said


def _load(results: Results) -> str:
    levels = sorted({cell.concurrency for cell in all_cells(results)})
    said = f"{', '.join(map(str, levels))} at a time" if levels else "none"
    run = results.run
    return f"{said}; {_loops(results)}; {plural(run.rounds, 'round')}; seed {run.seed}"


def _loops(results: Results) -> str:
    """Which loops were used: open ones with what they offered and how arrivals were spaced."""
    opened = [cell for cell in results.cells if is_open(cell)]
    if not opened:
        return f"{results.run.loop} loop"
    loads = ", ".join(dict.fromkeys(load_words(cell.load).removesuffix(" load") for cell in opened))
    spaced = " and ".join(dict.fromkeys(cell.schedule.arrivals for cell in opened if cell.schedule))
    of = " of the maximum" if any(cell.load.endswith("%") for cell in opened) else ""
    said = f"open loop at {loads}{of}{f', {spaced} arrivals' if spaced else ''}"
    return said if len(opened) == len(results.cells) else f"closed loop for the maximum, {said}"


def _hardware(facts: dict[str, str], *, short: bool = False) -> str:
    cores, disk = _fact(facts, "cores"), _fact(facts, "file system of the stores")
    parts = [
        _fact(facts, "processor"),
        plural(int(cores), "core") if cores.isdecimal() else cores,
        _fact(facts, "memory"),
        f"stores on {disk}" if disk else "",
        _fact(facts, "distribution").partition(" (")[0] if short else _fact(facts, "distribution"),
        "" if short else _fact(facts, "machine"),
    ]
    return ", ".join(part for part in parts if part) or "not recorded"


def _fact(facts: dict[str, str], name: str) -> str:
    return one_line(facts.get(name, ""))
