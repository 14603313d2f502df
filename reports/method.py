"""How the figures came about and what they do not say, in short paragraphs."""

from typing import Final

from bench.results import Results
from reports import aftermath
from reports.judged import PUBLISHED, all_cells, is_open

_CLOSED: Final = (
    "Closed loop",
    "Each writer sends its next operation when the last one ended, so its latency is service time: it hides "
    "the queue that builds up behind a stall in real life (coordinated omission). Compare candidates with it; "
    "do not promise it to users.",
)
_MAXIMUM: Final = (
    "Closed loop",
    "Each writer sends its next operation when the last one ended: that finds the maximum throughput. Its latency "
    "is service time, which hides the queue behind a stall (coordinated omission); users are told of by the open loop.",
)
_OPEN: Final = (
    "Open loop",
    "Operations are due on a schedule that does not wait for answers, the same for every candidate. Latency is "
    "response time, from the moment an operation was due: what queued behind a stall counts, as it does for users "
    "(no coordinated omission). A load of 80 % is that share of the maximum which the closed loop found before.",
)
_LAG: Final = (
    "Schedule lag, late, skipped",
    "The lag runs from when an operation was due to when it was sent: a store that falls behind makes it, and so does "
    "a slow load generator, whose own part is told apart. Late operations were answered after the limit. "
    "Skipped ones were never sent, since they were too late already or the load had to end; they have no "
    "latency, so where many were skipped the percentiles flatter.",
)
_ROUNDS: Final = (
    "Rounds, not requests",
    "A cell (candidate, driver, workload, concurrency) is measured once in each round, and the rounds "
    "interleave the cells, so that a slow hour of the machine hits all of them. Intervals are over rounds, "
    "because requests within one trial are not independent: 90 % where a criterion is judged, 95 % elsewhere.",
)
_FAULTS: Final = (
    (
        "Faults",
        "Each fault is a trial of its own. The load runs, something is broken on purpose, mended, and the load goes on "
        "until the store answers again. Then every commit is read back from what came back, a server that was started "
        "again or a file that was opened again, and the store checks its own structure.",
    ),
    (
        "Kept, lost, broken, unknown",
        "Kept: every acknowledged write is there, unchanged. Lost: some are gone, and the settings read back allow "
        "this fault to take them. Broken: they are gone against what the settings promise, or changed, duplicated or "
        "added, or the structure is damaged. Unknown: it was not found out, and never counts as kept. "
        "Gone is exit code 4, allowed or not; what a model took from the reference is shown and decides nothing.",
    ),
    (
        "Outages",
        "Gone for: the longest time without an operation that ended ok, from the fault's beginning on, so the fault's "
        "own length is part of it. First ok after: from when its mending begins, so a restart is part of it. Both are "
        "the worst of the rounds. Stale: a read that began after the acknowledgement missed a row that a later one "
        "found; it is counted, and no loss.",
    ),
)
_MODEL: Final = "A model shows what a store's own syncs protect, not what a given disk or file system would do."


def method(results: Results) -> list[tuple[str, str]]:
    """What a reader must know of the method, as (title, text)."""
    drivers = {cell.driver for cell in all_cells(results)}
    stores = {cell.store for cell in all_cells(results)} | {each.store for each in results.candidates}
    measured = bool(results.cells) or not results.faults
    said = [
        *([_ROUNDS] if measured else []),
        *_faults(results),
        (
            "Three outcomes",
            "A criterion passes or fails only where its evidence is clear of the limit. Otherwise, or where "
            "nothing could be measured, it is inconclusive, and never a pass. The worst gating criterion decides a "
            "candidate, the worst candidate decides the run. Advisory criteria and the reference decide nothing.",
        ),
        *(_loops(results) if measured else []),
        (
            "Integrity",
            "Every commit is noted before it is sent and read back after the load stopped: by SQL, and after load "
            "through a server over REST too. Values and timestamps are compared bit for bit. Lost: acknowledged, "
            "absent. Duplicated: more copies than attempts allow. Corrupted: other bits. Unexpected: never attempted. "
            "Recovered and indeterminate: the answer was "
            "unknown and the row is there or is not; neither is a fault.",
        ),
        (
            "Lock errors and deadlocks",
            "Lock errors are counted by the driver's error code, per attempt, as clients saw them. The referee is the "
            "database's own counter: MLflow retries deadlocks inside the server, so answers alone hide them.",
        ),
        _not_tested(results),
    ]
    said += _compared(results)
    if "http" in drivers:
        said.append(
            (
                "Through the server",
                "Users speak MLflow's REST API to a real MLflow server, every attempt counted. It is available at the "
                "moments, four a second, at which /health and a search both answer: /health alone never touches the "
                "database. Errors inside the server are those of its database calls, also those that its own retries "
                "hid; of a tracking server that is not ours they are unknown.",
            )
        )
    if any(each.table == PUBLISHED for each in results.criteria):
        said.append(
            (
                "The published table",
                "The published migration test's targets, measured again. They are lenient enough for a store whose "
                "contention shows as waiting, so they are shown and do not decide. Published figures are from other "
                "machines and versions: read them as orders of magnitude.",
            )
        )
    if "direct" in drivers:
        said.append(
            (
                "The direct driver",
                "Writers issue the statements of MLflow's own store on its own tables, without an MLflow server. "
                "The figures are the store's share and its limit; users of a server wait longer and get less.",
            )
        )
    if "mariadb" in stores:
        said.append(("MariaDB is not MySQL", "MariaDB was measured as MariaDB; nothing here says how MySQL would do."))
    return said


def _faults(results: Results) -> list[tuple[str, str]]:
    """How faults were made and judged, where there were any."""
    if not results.faults:
        return []
    power = aftermath.power_losses(results)
    return [*_FAULTS, *([("Power losses", f"They are {power}. {_MODEL}")] if power else [])]


def _not_tested(results: Results) -> tuple[str, str]:
    """What a reader might take for proved, and is not."""
    killed = any((each.kind, each.target) == ("kill", "database") for each in results.faults)
    power = "loss of power beyond that model" if aftermath.power_losses(results) else "loss of power"
    crashes = (
        "Crashes of the operating system" if killed else "Crashes of the server (kill -9), of the operating system"
    )
    return (
        "Not tested",
        f"{crashes}, and {power}. The durability claim under Settings is what the settings read back allow"
        + (", and what a fault is judged against." if results.faults else ", not what a fault proved."),
    )


def _loops(results: Results) -> list[tuple[str, str]]:
    """The loops that were used."""
    opened = [cell for cell in results.cells if is_open(cell)]
    if not opened:
        return [_OPEN if results.run.loop == "open" else _CLOSED]
    closed = len(opened) < len(results.cells)
    return [*([_MAXIMUM] if closed else []), _OPEN, _LAG]


def _compared(results: Results) -> list[tuple[str, str]]:
    """What comparing, seeking a limit and looking more than once mean, where the run did so."""
    said = []
    if results.capacities:
        said.append(
            (
                "Capacity",
                "Each candidate was offered shares of its own maximum, step by step. The highest rate at which the "
                "objective held, with all lower ones, is its capacity for it; the true limit lies between that rate "
                "and the next one. In overload the queue grows for as long as the test lasts, so a latency there is "
                "a sign, not a figure.",
            )
        )
    if results.comparisons:
        said.append(
            (
                "Against the reference",
                "A candidate's figure is divided by the reference's in the same round, and the interval is of the mean "
                "log ratio over rounds. So many comparisons find differences by chance: the p of each is corrected "
                "over all of them (Holm), and only then better or worse is said.",
            )
        )
    if results.control is not None:
        said.append(
            (
                "A/A control",
                "One store was measured twice in each round, as if it were two. It differs from itself by what the "
                "harness and the machine add: believe no smaller difference between stores.",
            )
        )
    if results.run.looks:
        said.append(
            (
                "Rounds until decided",
                f"The run could end after {', '.join(map(str, results.run.looks))} rounds. Each look may err, so each "
                "uses a wider interval than a single one would, and all of them together err as often as that.",
            )
        )
    if results.marks:
        said.append(
            (
                "Before you believe a figure",
                "These marks are worked out from the run itself: whether the load generator, the clock and the machine "
                "were up to it, whether rounds sufficed, whether settings and versions were alike.",
            )
        )
    return said
