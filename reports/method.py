"""How the figures came about and what they do not say, in short paragraphs."""

from typing import Final

from bench.results import Results
from reports.judged import PUBLISHED

_LOOPS: Final = {
    "closed": (
        "Closed loop",
        "Each writer sends its next operation when the last one ended, so response time is service time: it hides "
        "the queue that builds up behind a stall in real life (coordinated omission). Compare candidates with it; "
        "do not promise it to users.",
    ),
    "open": (
        "Open loop",
        "Operations are due on a schedule that does not wait for answers. Latency is response time, from the moment "
        "an operation was due: what queued behind a stall counts, as it does for users (no coordinated omission).",
    ),
}


def method(results: Results) -> list[tuple[str, str]]:
    """What a reader must know of the method, as (title, text)."""
    drivers = {cell.driver for cell in results.cells}
    stores = {cell.store for cell in results.cells} | {each.store for each in results.candidates}
    said = [
        (
            "Rounds, not requests",
            "A cell (candidate, driver, workload, concurrency) is measured once in each round, and the rounds "
            "interleave the cells, so that a slow hour of the machine hits all of them. Intervals are over rounds, "
            "because requests within one trial are not independent: 90 % where a criterion is judged, 95 % elsewhere.",
        ),
        (
            "Three outcomes",
            "A criterion passes or fails only where its evidence is clear of the limit. Otherwise, or where "
            "nothing could be measured, it is inconclusive, and never a pass. The worst gating criterion decides a "
            "candidate, the worst candidate decides the run. Advisory criteria and the reference decide nothing.",
        ),
        _LOOPS[results.run.loop],
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
        (
            "Not tested",
            "Crashes of the server (kill -9), of the operating system, and loss of power. The durability claim under "
            "Settings is what the settings read back allow, not what a fault proved.",
        ),
    ]
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
