"""What real trials leave is read by MLflow itself: every run, param, tag and metric, each value bit for bit."""

import asyncio
import math
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stores import NAMES

from bench import identity, ledger, loader, stands
from bench.identity import LARGEST, TrialKey
from bench.outcome import Outcome
from bench.plan import Trial
from bench.scenario import CandidateSpec, LoadedScenario, parse_text
from bench.stand import Access
from bench.stores.url import StoreUrl
from bench.trial import Setting, run_trial
from bench.workload import Layout, Workload

pytestmark = [
    pytest.mark.servers,
    pytest.mark.usefixtures("quick_start"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # MLflow's own
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
WRITERS, COUNT = 2, 24
KINDS = {
    "log_metric": "",
    "log_batch": "metrics = 10\nparams = 2\ntags = 2",
    "train": "params = 3\ntags = 2\nkeys = 2\nsteps = 4",
    "bulk": "metrics = 50",
    "hot": "metrics = 5\nhot_run = true\nfresh_keys = true\nshuffled = true",
}
SCENARIO = "".join(
    f'[workloads.{name}]\nkind = "{"log_batch" if name == "hot" else name}"\n{more}\n' for name, more in KINDS.items()
)
CELLS = "".join(f'[[cells]]\nworkload = "{name}"\nconcurrency = [{WRITERS}]\n' for name in KINDS)
Run = dict[str, Any]


@contextmanager
def mlflow_store(url: StoreUrl) -> Iterator[Any]:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore(url.mlflow, "file:///trackbench/tests")
    try:
        yield store
    finally:
        store.engine.dispose()


def as_read(value: float) -> bytes:
    """A value's bits as MLflow gives it: NaN as NaN, an infinity as the largest double, no sign of zero."""
    if math.isnan(value):
        return b"NaN"
    return struct.pack(">d", max(-LARGEST, min(LARGEST, value)) + 0.0)


def sent(layout: Layout, folder: Path) -> dict[str, Run]:
    """What the writers were told is stored, by run: computed from the ledger and the workload's arithmetic alone."""
    runs: dict[str, Run] = {}
    for place in layout.setup_runs():
        runs[layout.key.run_id(*place)] = {"params": {}, "tags": {}, "metrics": {}, "finished": False}
    for writer in range(layout.writers):
        status = ledger.load(folder, writer)
        cycles = layout.cycles_of(len(status))
        done = {commit for commit, byte in enumerate(status) if byte == Outcome.OK}
        assert {Outcome(int(byte)) for byte in status} <= {Outcome.OK, Outcome.FAIL}  # nothing is in doubt
        for cycle in range(cycles):
            run = runs.setdefault(
                layout.run_id(writer, cycle), {"params": {}, "tags": {}, "metrics": {}, "finished": False}
            )
            run["finished"] |= layout.own_runs and layout.finish_commit(cycle) in done
        _add_metrics(runs, layout, writer, done)
        for what, per_cycle in (("param", layout.workload.params), ("tag", layout.workload.tags)):
            commit = layout.param_commit if what == "param" else layout.tag_commit
            name = layout.param_key if what == "param" else layout.tag_key
            for n in range(cycles * per_cycle):
                if commit(n) in done:
                    run = runs[layout.run_id(writer, n // per_cycle)]
                    run[f"{what}s"][name(writer, n)] = identity.text(layout.key, writer, n, what)
    return runs


def _add_metrics(runs: dict[str, Run], layout: Layout, writer: int, done: set[int]) -> None:
    size = layout.metrics_per_cycle
    ordinals = np.arange((max(done) // layout.commits_per_cycle + 1) * size)
    ordinals = ordinals[[int(commit) in done for commit in layout.metric_commits(ordinals)]]
    timestamps, values = identity.metrics(layout.key, np.array([writer]), ordinals)
    for n, timestamp, value, key, step in zip(
        ordinals.tolist(), timestamps.tolist(), values.tolist(), *layout.metric_places(writer, ordinals), strict=True
    ):
        history = runs[layout.run_id(writer, n // size)]["metrics"].setdefault(key, [])
        history.append((step, timestamp, as_read(value)))


def read(store: Any, experiment_id: int) -> dict[str, Run]:
    """The same, as MLflow sees it."""
    from mlflow.entities import ViewType

    runs: dict[str, Run] = {}
    for found in store.search_runs([str(experiment_id)], "", ViewType.ALL, 1000):
        run = store.get_run(found.info.run_id)
        assert run.data.params == found.data.params
        assert run.data.tags == found.data.tags
        history = {}
        for key, latest in run.data.metrics.items():
            rows = store.get_metric_history(found.info.run_id, key)
            history[key] = [(row.step, row.timestamp, as_read(row.value)) for row in rows]
            last = max(rows, key=lambda row: (row.step, row.timestamp, 0.0 if math.isnan(row.value) else row.value))
            assert as_read(latest) == as_read(last.value)
        tags = {key: value for key, value in run.data.tags.items() if key != "mlflow.runName"}
        assert run.data.tags["mlflow.runName"] == run.info.run_name == f"trackbench-{found.info.run_id[:24]}"
        assert (run.info.end_time is not None) == (run.info.status == "FINISHED")
        finished = run.info.status == "FINISHED"
        runs[found.info.run_id] = {"params": run.data.params, "tags": tags, "metrics": history, "finished": finished}
    return runs


def comparable(runs: dict[str, Run]) -> dict[str, Run]:
    for run in runs.values():
        run["metrics"] = {key: sorted(rows) for key, rows in run["metrics"].items()}
    return runs


@pytest.mark.parametrize("name", NAMES)
def test_mlflow_reads_what_trials_wrote(fresh: Callable[[str], StoreUrl], tmp_path: Path, name: str) -> None:
    url = fresh(name)
    text = f'title = "reads"\nwarmup_s = 0.0\n[candidates.c]\nstore = "{name}"\n{SCENARIO}{CELLS}'
    loaded = LoadedScenario(name="reads", text=text, scenario=parse_text(text, "reads.toml"))
    setting = Setting("reads", 7, loaded.scenario, tmp_path, loader.start)

    async def trials() -> dict[str, tuple[int, int, int]]:
        """The number, the experiment and the ok operations of each workload's trial; the rows stay."""
        made: dict[str, tuple[int, int, int]] = {}
        spec = CandidateSpec.model_validate({"store": name})
        async with stands.stand("c", spec, Access(url, keep=True), tmp_path, print) as ready:
            for number, workload in enumerate(KINDS, start=1):
                trial = Trial(number, 0, "c", "direct", workload, WRITERS, 0.0, 60.0, COUNT, 0, WRITERS)
                record = await run_trial(trial, setting, ready)
                assert record.error is None
                assert record.ops_ok + record.deadlocks == COUNT * WRITERS  # of a hot run InnoDB may undo one
                assert record.integrity.checked, record.integrity.reason
                assert not record.integrity.broken, record.integrity.examples
                made[workload] = (number, max(ready.ours), record.ops_ok)
        return made

    made = asyncio.run(trials())
    with mlflow_store(url) as store:
        for workload, (number, experiment_id, ok) in made.items():
            work: Workload = loaded.scenario.workloads[workload].workload(workload)
            layout = Layout(TrialKey.of("reads", 7, number), work, WRITERS)
            folder = tmp_path / "trials" / f"{number:04d}-c-direct-{workload}-c{WRITERS}"
            expected = comparable(sent(layout, folder))
            assert comparable(read(store, experiment_id)) == expected, workload
            values = [row[2] for run in expected.values() for rows in run["metrics"].values() for row in rows]
            assert len(values) == ok * {"log_batch": 10, "bulk": 50, "hot": 5}.get(workload, len(values) / ok)
            assert len(values) >= 20
            if workload == "bulk":
                assert {b"NaN", as_read(math.inf), as_read(-math.inf), as_read(5e-324)} <= set(values)
