"""Makes an SQLite MLflow store of any size from a seed: what runs, models and traces leave, and what breaks copies.

.venv/bin/python -m benchmarks.made_store PATH --metrics 1200000 --runs 2000 --seed 1 --nasty
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.identity import DAY_MS, EPOCH_MS
from bench.migrate.catalog import reflect
from bench.servers import places
from bench.stores import schema
from bench.stores.url import StoreUrl
from benchmarks import nasty_values
from benchmarks.nasty_values import insert

_KEYS: Final = ("train/loss", "train/accuracy", "val/loss", "val/accuracy", "system/cpu_utilization", "lr")
_SPAN_DAYS: Final = 90
_STEP_MS: Final = 1_000
_ARTIFACTS: Final = "file:///trackbench/made"
_STATUSES: Final = ("FINISHED",) * 8 + ("FAILED", "KILLED", "RUNNING")
Row = Sequence[object]


@dataclass(frozen=True)
class Made:
    """What to make. Rows of the other tables follow from the number of runs; ``metrics`` is met exactly."""

    metrics: int
    runs: int
    seed: int = 1

    @property
    def experiments(self) -> int:
        """How many, beside MLflow's own experiment 0."""
        return max(1, min(50, self.runs // 20))

    def run_id(self, run: int) -> str:
        """32 hexadecimal digits, in no order."""
        return self.id("run", run)

    def id(self, what: str, number: int) -> str:
        """A name of 32 hexadecimal digits of anything that has a number."""
        words = np.random.default_rng([self.seed, *what.encode(), number]).integers(0, 2**63, 2)
        return f"{int(words[0]):016x}{int(words[1]):016x}"

    def begun(self, run: int) -> int:
        """When the run began, ms."""
        return EPOCH_MS + _SPAN_DAYS * DAY_MS * run // max(1, self.runs)

    def experiment(self, run: int) -> int:
        """The number of its experiment, from 1."""
        return 1 + run % self.experiments

    def metrics_of(self, run: int) -> int:
        """How many rows of metrics it has."""
        return self.metrics * (run + 1) // self.runs - self.metrics * run // self.runs


def make(path: Path, made: Made, nasty: bool = False) -> None:
    """Make the store at ``path``, which must not exist; it appears when it is complete.

    Raises:
        FileExistsError: there is a file.
    """
    if path.exists():
        raise FileExistsError(f"{path}: exists; give another path")
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        shutil.copyfile(template(), draft)
        catalog = reflect(StoreUrl("sqlite", path=draft))
        with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
            for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -65536", "temp_store = MEMORY"):
                connection.execute(f"PRAGMA {pragma}").fetchall()
            connection.execute("BEGIN")
            fill(connection, made)
            if nasty:
                nasty_values.add(connection, catalog)
            connection.execute("COMMIT")
            connection.execute("PRAGMA optimize")
        draft.rename(path)
    finally:
        draft.unlink(missing_ok=True)


def template() -> Path:
    """An empty store with our MLflow's schema; made now if there is none in the cache."""
    found = schema.template_path(places.cache_dir())
    if not found.exists():
        draft = found.with_suffix(f".{secrets.token_hex(4)}.tmp")
        draft.touch()
        asyncio.run(schema.create(StoreUrl("sqlite", path=draft), "file:///trackbench/default"))
        draft.replace(found)
    return found


def fill(connection: sqlite3.Connection, made: Made) -> None:
    """Write the rows of ``made`` into MLflow's schema, in the caller's transaction."""
    for rows in (_experiments, _runs, _params, _tags, _inputs, _registry, _traces, _models):
        for table, columns, of_table in rows(made):
            insert(connection, table, columns, of_table)
    columns = "key value timestamp run_uuid step is_nan"
    insert(connection, "metrics", columns, (row for run in range(made.runs) for row in _metrics(made, run)))
    insert(connection, "latest_metrics", columns, (row for run in range(made.runs) for row in _latest(made, run)))


Tables = Iterator[tuple[str, str, Iterable[Row]]]


def _experiments(made: Made) -> Tables:
    numbers = range(1, made.experiments + 1)
    yield (
        "experiments",
        "experiment_id name artifact_location lifecycle_stage creation_time last_update_time",
        (
            (n, f"experiment {n}", f"{_ARTIFACTS}/{n}", "deleted" if n % 17 == 16 else "active", EPOCH_MS, EPOCH_MS + n)
            for n in numbers
        ),
    )
    yield "experiment_tags", "key value experiment_id", (("mlflow.note.content", f"Note {n}", n) for n in numbers)


def _runs(made: Made) -> Tables:
    columns = (
        "run_uuid name source_type source_name entry_point_name user_id status start_time end_time source_version "
        "lifecycle_stage artifact_uri experiment_id deleted_time"
    )

    def rows() -> Iterator[Row]:
        for run in range(made.runs):
            status, begun, gone = _STATUSES[run % len(_STATUSES)], made.begun(run), run % 50 == 49
            ended = None if status == "RUNNING" else begun + made.metrics_of(run) * _STEP_MS
            place = f"{_ARTIFACTS}/{made.experiment(run)}/{made.run_id(run)}/artifacts"
            yield (
                made.run_id(run), f"run-{run}", "LOCAL", "train.py", "", f"user{run % 7}", status, begun, ended,
                "0123456789abcdef0123456789abcdef01234567", "deleted" if gone else "active", place,
                made.experiment(run), begun + DAY_MS if gone else None,
            )  # fmt: skip

    yield "runs", columns, rows()


def _params(made: Made) -> Tables:
    def rows() -> Iterator[Row]:
        for run in range(made.runs):
            draw = np.random.default_rng([made.seed, 1, run]).random(10)
            yield from ((f"param{n}", repr(float(value)), made.run_id(run)) for n, value in enumerate(draw))

    yield "params", "key value run_uuid", rows()


def _tags(made: Made) -> Tables:
    def rows() -> Iterator[Row]:
        for run in range(made.runs):
            run_id = made.run_id(run)
            yield "mlflow.runName", f"run-{run}", run_id
            yield "mlflow.user", f"user{run % 7}", run_id
            yield "mlflow.source.git.commit", made.id("commit", run % 20), run_id
            if run % 10 and run >= 10:
                yield "mlflow.parentRunId", made.run_id(run - run % 10), run_id

    yield "tags", "key value run_uuid", rows()


def _inputs(made: Made) -> Tables:
    numbers = range(1, made.experiments + 1)
    fields = json.dumps({"mlflow_colspec": [{"type": "double", "name": f"x{n}"} for n in range(20)]})
    yield (
        "datasets",
        "dataset_uuid experiment_id name digest dataset_source_type dataset_source dataset_schema dataset_profile",
        (
            (made.id("set", n), n, f"data {n}", f"{n:08x}", "local", '{"uri": "data.csv"}', fields, None)
            for n in numbers
        ),
    )
    pairs = [(made.id("input", run), run) for run in range(0, made.runs, 4)]
    yield (
        "inputs",
        "input_uuid source_type source_id destination_type destination_id step",
        ((own, "DATASET", made.id("set", made.experiment(run)), "RUN", made.run_id(run), 0) for own, run in pairs),
    )
    yield "input_tags", "input_uuid name value", ((own, "mlflow.data.context", "training") for own, _ in pairs)


def _registry(made: Made) -> Tables:
    models = range(max(1, made.runs // 50))
    versions = [(f"model-{model}", version, model) for model in models for version in range(1, 4)]
    yield (
        "registered_models",
        "name creation_time last_updated_time description",
        ((f"model-{model}", EPOCH_MS, EPOCH_MS + model, None if model % 2 else "A model") for model in models),
    )
    yield "registered_model_tags", "key value name", (("team", f"team {m % 3}", f"model-{m}") for m in models)
    columns = "name version creation_time last_updated_time description user_id current_stage source run_id status"
    yield (
        "model_versions",
        columns,
        (
            (
                name, version, EPOCH_MS, EPOCH_MS + version, "", None, "None" if version > 1 else "Production",
                f"{_ARTIFACTS}/{name}", made.run_id(model % made.runs), "READY",
            )
            for name, version, model in versions
        ),
    )  # fmt: skip
    yield "model_version_tags", "key value name version", (("checked", "yes", name, v) for name, v, _ in versions)
    yield (
        "registered_model_aliases",
        "alias version name",
        (("champion", version, name) for name, version, _ in versions if version == 3),
    )


def _traces(made: Made) -> Tables:
    traces = range(made.runs // 2)

    def id_of(trace: int) -> str:
        return f"tr-{made.id('trace', trace)}"

    yield (
        "trace_info",
        "request_id experiment_id timestamp_ms execution_time_ms status request_preview response_preview",
        ((id_of(n), made.experiment(n), made.begun(n), n % 5000, "OK", '{"q": 1}', None) for n in traces),
    )
    yield "trace_tags", "key value request_id", (("mlflow.traceName", f"trace {n}", id_of(n)) for n in traces)
    yield (
        "trace_request_metadata",
        "key value request_id",
        (("mlflow.sourceRun", made.run_id(n), id_of(n)) for n in traces),
    )
    # spans.duration_ns is computed by the database
    columns = (
        "trace_id experiment_id span_id parent_span_id name type status start_time_unix_nano end_time_unix_nano content"
    )

    def spans() -> Iterator[Row]:
        for trace in traces:
            for n in range(4):
                began = made.begun(trace) * 1_000_000 + n
                ended = None if n == 3 and trace % 9 == 0 else began + 1_000_003 * (n + 1)
                content = json.dumps({"name": f"span {n}", "attributes": {"input": "x" * 100, "n": n}})
                parent = None if n == 0 else f"{trace:012x}0000"
                yield (
                    id_of(trace), made.experiment(trace), f"{trace:012x}{n:04x}", parent, f"span {n}", "LLM", "OK",
                    began, ended, content,
                )  # fmt: skip

    yield "spans", columns, spans()
    of_spans = ((id_of(n), f"{n:012x}0000", "cost", n / 7) for n in traces)
    yield "span_metrics", "trace_id span_id key value", of_spans
    yield "trace_metrics", "request_id key value", ((id_of(n), "total_tokens", float(n)) for n in traces)
    columns = (
        "assessment_id trace_id name assessment_type value created_timestamp last_updated_timestamp source_type "
        "source_id valid"
    )
    yield (
        "assessments",
        columns,
        (
            (f"a-{made.id('assessment', n)}", id_of(n), "good", "feedback", "true", 1, 2, "HUMAN", "me", n % 3 == 0)
            for n in traces
        ),
    )


def _models(made: Made) -> Tables:
    runs = range(0, made.runs, 5)

    def id_of(run: int) -> str:
        return f"m-{made.id('model', run)}"

    yield (
        "logged_models",
        "model_id experiment_id name artifact_location creation_timestamp_ms last_updated_timestamp_ms status "
        "lifecycle_stage model_type source_run_id",
        (
            (
                id_of(run), made.experiment(run), f"logged {run}", f"{_ARTIFACTS}/models/{run}", made.begun(run),
                made.begun(run) + 1, 2, "active", None, made.run_id(run),
            )
            for run in runs
        ),
    )  # fmt: skip
    owned = "model_id experiment_id"
    for table, key in (("logged_model_params", "param"), ("logged_model_tags", "tag")):
        rows = ((id_of(run), made.experiment(run), "depth", str(run)) for run in runs)
        yield table, f"{owned} {key}_key {key}_value", rows
    yield (
        "logged_model_metrics",
        f"{owned} metric_name metric_timestamp_ms metric_step metric_value run_id",
        (
            (id_of(run), made.experiment(run), "auc", made.begun(run), 0, 1 / (run + 1), made.run_id(run))
            for run in runs
        ),
    )


def _metrics(made: Made, run: int) -> Iterator[tuple[Any, ...]]:
    """A run's rows as a training logs them: step after step all keys, and now and then a value that is no number."""
    count = made.metrics_of(run)
    draw = np.random.default_rng([made.seed, 2, run])
    values = draw.standard_normal(count)
    not_a_number = draw.random(count) < 0.001
    values[not_a_number] = 0.0
    order = np.arange(count)
    steps, times = order // len(_KEYS), made.begun(run) + order * _STEP_MS // len(_KEYS)
    run_id = made.run_id(run)
    for n, row in enumerate(
        zip(values.tolist(), times.tolist(), steps.tolist(), not_a_number.astype(int).tolist(), strict=True)
    ):
        yield _KEYS[n % len(_KEYS)], row[0], row[1], run_id, row[2], row[3]


def _latest(made: Made, run: int) -> Iterable[Row]:
    """Each key's row of the highest step: here its last."""
    return {row[0]: row for row in _metrics(made, run)}.values()


def main() -> None:
    """Make one, and say how long it took and how large it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--metrics", type=int, default=1_200_000)
    parser.add_argument("--runs", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--nasty", action="store_true", help="also values that careless copies change")
    given = parser.parse_args()
    began = time.monotonic()
    make(given.path, Made(given.metrics, given.runs, given.seed), given.nasty)
    size, seconds = given.path.stat().st_size / 1e6, time.monotonic() - began
    print(f"{given.path}: {given.metrics:,} metrics in {given.runs:,} runs, {size:,.0f} MB, made in {seconds:.1f} s")


if __name__ == "__main__":
    main()
