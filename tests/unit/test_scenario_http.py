"""Scenarios over HTTP: drivers, settings of the tracking server, trainings and traces; and what fits none of them."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import scenario as scenarios
from bench.errors import BadInput
from bench.judge.criteria import parse
from bench.judge.fields import FIELDS, MOVE_FIELDS
from bench.judge.places import cells_of
from bench.plan import Overrides, plan
from bench.scenario import TrackingSpec, load, parse_text
from bench.scenario_rules import MAX_WRITERS
from bench.selection import with_stores
from bench.workload import KINDS, OPERATIONS

GOOD = """\
title = "t"
reference = "sqlite"
rounds = 2

[candidates.sqlite]
store = "sqlite"

[candidates.pooled]
store = "postgresql"
tracking = { workers = 8, pool_size = 20, max_overflow = 2, authentication = true, artifact_root = "s3://bucket" }

[candidates.slow]
store = "postgresql"
[candidates.slow.tracking]
workers = 1

[workloads.single]
kind = "log_metric"

[workloads.training]
kind = "train"
experiments = true
params = 10

[workloads.spans]
kind = "traces"
spans = 20
read_share = 0.25

[[cells]]
driver = "http"
workload = "single"
concurrency = [1, 20]

[[cells]]
workload = "single"
concurrency = [20]

[[cells]]
driver = "http"
workload = "training"
concurrency = [20]
runs = 1

[[cells]]
driver = "http"
workload = "spans"
concurrency = [4]

[[criteria]]
name = "fast"
expression = "p99_ms <= 500"

[[criteria]]
name = "finished"
expression = "runs_unfinished == 0"
workload = "training"
table = "decides"

[[criteria]]
name = "direct"
expression = "metrics_per_s > 50"
driver = "direct"
table = "published"
published = "102.2 (MLflow 2.9.2)"
gating = false
"""


def refusal(text: str) -> str:
    with pytest.raises(BadInput) as caught:
        parse_text(text, "my.toml")
    words = str(caught.value)
    assert "\n" not in words
    assert words.startswith("my.toml")
    return words


def changed(old: str, new: str, count: int = 1) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, count)


def line_of(text: str, part: str) -> int:
    return next(n for n, line in enumerate(text.splitlines(), start=1) if part in line)


def test_a_good_one_is_taken_as_it_says() -> None:
    found = parse_text(GOOD, "my.toml")
    assert [cell.driver for cell in found.cells] == ["http", "direct", "http", "http"]
    assert found.candidates["pooled"].tracking == TrackingSpec(
        workers=8, pool_size=20, max_overflow=2, authentication=True, artifact_root="s3://bucket"
    )
    assert found.candidates["slow"].tracking.workers == 1
    plain = found.candidates["sqlite"].tracking
    assert (plain.workers, plain.pool_size, plain.max_overflow, plain.authentication, plain.artifact_root) == (
        4, None, None, False, None,
    )  # fmt: skip
    training, spans = (found.workloads[name].workload(name) for name in ("training", "spans"))
    assert (training.experiments, training.params, training.operation) == (True, 10, "log_metric")
    assert (spans.spans, spans.read_share, spans.operation) == (20, 0.25, "log_spans")
    assert found.cells[2].runs == 1
    assert (found.criteria[1].table, found.criteria[2].published) == ("decides", "102.2 (MLflow 2.9.2)")


def test_a_criterion_is_for_the_cells_that_it_does_not_exclude() -> None:
    found = parse_text(GOOD, "my.toml")
    every = [
        ("http", "single", 1), ("http", "single", 20), ("direct", "single", 20), ("http", "training", 20),
        ("http", "spans", 4),
    ]  # fmt: skip
    assert cells_of(found.criteria[0], found) == [(*place, "closed", "") for place in every]
    assert cells_of(found.criteria[1], found) == [("http", "training", 20, "closed", "")]
    assert cells_of(found.criteria[2], found) == [("direct", "single", 20, "closed", "")]


BAD = {
    "unknown driver": (
        changed('driver = "http"', 'driver = "grpc"'), 'driver = "grpc"', ["'grpc'", "'direct'", "'http'"]
    ),
    "unknown driver of a criterion": (
        changed('driver = "direct"', 'driver = "locust"'), 'driver = "locust"', ["'locust'", "'direct'"]
    ),
    "traces without a server": (
        changed('driver = "http"\nworkload = "spans"', 'workload = "spans"'), 'workload = "spans"',
        ["'spans'", "traces", 'driver = "http"'],
    ),
    "experiments without a server": (
        changed('driver = "http"\nworkload = "training"', 'workload = "training"'), 'workload = "training"',
        ["'training'", "experiments", 'driver = "http"'],
    ),
    "bulk over HTTP": (
        changed('kind = "traces"\nspans = 20\nread_share = 0.25', 'kind = "bulk"'), 'workload = "spans"',
        ["'spans'", "bulk", 'driver = "direct"'],
    ),
    "runs of no training": (
        changed("concurrency = [4]", "concurrency = [4]\nruns = 2"), 'workload = "spans"', ["runs", "train", "count"]
    ),
    "runs and a count": (changed("runs = 1", "runs = 1\ncount = 9"), 'workload = "training"', ["runs and count"]),
    "no run": (changed("runs = 1", "runs = 0"), "runs = 0", ["cells.2.runs", "greater than or equal to 1"]),
    "experiments of no training": (
        changed('kind = "log_metric"', 'kind = "log_metric"\nexperiments = true'), "[workloads.single]",
        ["experiments", "train"],
    ),
    "params of traces": (changed("spans = 20", "params = 2"), "[workloads.spans]", ["params", "log_batch"]),
    "lockstep of traces": (changed("spans = 20", "lockstep = true"), "[workloads.spans]", ["lockstep"]),
    "no span": (changed("spans = 20", "spans = 0"), "spans = 0", ["workloads.spans.spans"]),
    "too many spans": (changed("spans = 20", "spans = 1001"), "spans = 1001", ["1000"]),
    "reads only": (changed("read_share = 0.25", "read_share = 1.0"), "read_share = 1.0", ["less than 1"]),
    "a hot run of trainings": (
        changed("experiments = true", "experiments = true\nhot_run = true"), "[workloads.training]", ["hot_run"]
    ),
    "no worker": (changed("workers = 1", "workers = 0"), "workers = 0", ["candidates.slow.tracking.workers"]),
    "too many workers": (changed("workers = 1", "workers = 65"), "workers = 65", ["64"]),
    "workers in words": (changed("workers = 1", 'workers = "1"'), 'workers = "1"', ["'1'", "integer"]),
    "negative overflow": (
        changed("max_overflow = 2", "max_overflow = -1"), "max_overflow = -1",
        ["candidates.pooled.tracking.max_overflow"],
    ),
    "no pool": (changed("pool_size = 20", "pool_size = 0"), "pool_size = 0", ["candidates.pooled.tracking.pool_size"]),
    "authentication in words": (
        changed("authentication = true", 'authentication = "basic"'), 'authentication = "basic"', ["'basic'", "boolean"]
    ),
    "unknown tracking setting": (
        changed("workers = 1", "worker = 1"), "worker = 1",
        ["'candidates.slow.tracking.worker'", "artifact_root, authentication, max_overflow, pool_size, workers"],
    ),
    "unknown table": (
        changed('table = "decides"', 'table = "mine"'), 'table = "mine"',
        ["criteria.1.table", "'published'", "'decides'"],
    ),
    "criterion of a driver without its workload": (
        changed('table = "decides"', 'driver = "direct"'), "runs_unfinished == 0", ["'finished'", "no cell"]
    ),
    "unknown field": (
        changed("runs_unfinished", "unfinished_runs"), "unfinished_runs",
        ["unknown field", "runs_unfinished", "errors.timeout"],
    ),
    "unknown kind of error": (changed("runs_unfinished", "errors.busy"), "errors.busy", ["errors.sqlite_busy"]),
    "unknown phase": (changed("runs_unfinished", "phases.finish_ms"), "phases.finish_ms", ["phases.create_ms"]),
    "a field of results alone": (
        changed("runs_unfinished", "generator.lost_parts"), "generator.lost_parts", ["unknown field"]
    ),
    "server settings of SQLite": (
        changed('store = "sqlite"', 'store = "sqlite"\nserver = { cache = "1" }'), "server = {", ["PRAGMA"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_named_with_its_place(name: str) -> None:
    text, place, parts = BAD[name]
    words = refusal(text)
    for part in parts:
        assert part in words
    assert words.startswith(f"my.toml:{line_of(text, place)}: "), words


@pytest.mark.parametrize("name", ["workloads.tracking", "candidates.tracking"])
def test_a_namesake_of_a_table_is_not_taken_for_it(name: str) -> None:
    """A candidate or a workload may be called "tracking"; the keys it may have are still its own."""
    kind, allowed = {"workloads": ('kind = "read"', "metrics"), "candidates": ('store = "mysql"', "session")}[
        name.split(".", maxsplit=1)[0]
    ]
    words = refusal(f"{GOOD}\n[{name}]\n{kind}\nnonsense = 1\n")
    assert allowed in words
    assert "workers" not in words.split("allowed here:")[1]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(KINDS), st.sampled_from(["direct", "http"]), st.booleans(),
    st.sampled_from(["", "runs = 2", "count = 5"]), st.sampled_from([0.0, 0.5]), st.integers(0, 2), st.integers(0, 2),
)  # fmt: skip
def test_what_is_accepted_can_be_carried_out(
    kind: str, driver: str, experiments: bool, end: str, share: float, metrics: int, params: int
) -> None:
    """Whatever passes the rules has a driver that can make it, a count in whole runs, and operations that are known."""
    text = (
        'title = "t"\n[prefill]\nruns = 2\nmetrics = 4\n[candidates.sqlite]\nstore = "sqlite"\n'
        f'[workloads.w]\nkind = "{kind}"\n'
        f"experiments = {str(experiments).lower()}\nread_share = {share}\nmetrics = {metrics}\nparams = {params}\n"
        f'[[cells]]\ndriver = "{driver}"\nworkload = "w"\nconcurrency = [2]\n{end}\n'
    )
    try:
        found = parse_text(text, "x.toml")
    except BadInput as error:
        assert "\n" not in str(error)  # noqa: PT017
        assert str(error).startswith("x.toml:")  # noqa: PT017
        return
    work = found.workloads["w"].workload("w")
    assert work.operation in OPERATIONS
    assert not (driver == "http" and kind == "bulk")
    assert not (driver == "direct" and (kind == "traces" or experiments))
    assert not experiments or kind == "train"
    assert kind == "train" or "runs" not in end
    (trial, *_) = plan(found, Overrides())
    assert trial.driver == driver
    assert trial.count == {"": None, "count = 5": 5, "runs = 2": 2 * work.operations_per_run}[end]


# The scenarios that come with Trackbench


@pytest.mark.parametrize("name", scenarios.known())
def test_a_shipped_scenario_names_only_what_there_is(name: str) -> None:
    scenario = load(name).scenario
    for criterion in scenario.criteria:
        assert parse(criterion.expression).field in FIELDS
        if parse(criterion.expression).field in MOVE_FIELDS:
            continue
        cells = cells_of(criterion, scenario)
        assert cells
        if parse(criterion.expression).field in ("runs_unfinished",) or ".phases" in criterion.expression:
            assert {scenario.workloads[workload].kind for _, workload, *_ in cells} == {"train"}
    used = {cell.workload for cell in scenario.cells}
    assert used <= set(scenario.workloads)
    assert name == "ci" or used == set(scenario.workloads)  # ci's are offered by Locust's web UI
    names = [criterion.name for criterion in scenario.criteria]
    assert len(names) == len(set(names)) or name == "migration"
    assert all(level <= MAX_WRITERS for cell in scenario.cells for level in cell.concurrency)


@pytest.mark.parametrize("name", scenarios.known())
@pytest.mark.parametrize("store", ["sqlite", "mariadb", "postgresql"])
def test_a_shipped_scenario_can_be_run_on_one_store(name: str, store: str) -> None:
    reduced = with_stores(load(name).scenario, [store])
    assert store in {candidate.store for candidate in reduced.candidates.values()}
    assert plan(reduced, Overrides())
    assert any(criterion.gating for criterion in reduced.criteria)


def test_the_migration_decides_by_its_second_table() -> None:
    """The published criteria alone would pass SQLite: none of them gates, all of the others do."""
    scenario = load("migration").scenario
    gates = {
        table: {one.gating for one in scenario.criteria if one.table == table} for table in ("published", "decides")
    }
    assert gates == {"published": {False}, "decides": {True}}
    assert {one.table for one in scenario.criteria} == {"published", "decides", "ready"}
    moves = {parse(one.expression).field for one in scenario.criteria if one.table == "ready"}
    assert moves <= set(MOVE_FIELDS)
    decides = {parse(one.expression).field for one in scenario.criteria if one.table == "decides"}
    assert decides == {
        "integrity", "runs_unfinished", "first_attempt_rate", "lock_errors", "errors.pool_exhausted",
        "referee.deadlocks", "p99_ms", "read.p95_ms", "referee.connections_share", "durable", "generator.cpu_share",
    }  # fmt: skip
    published = {one.expression for one in scenario.criteria if one.table == "published"}
    assert published == {
        "runs_unfinished == 0", "success_rate >= 0.95", "lock_errors == 0", "metrics_per_s > 50", "integrity == 1",
        "availability >= 0.99", "schema_missing == 0", "schema_current == 1", "phases.create_ms < 100",
        "phases.params_ms < 50", "phases.steps_ms < 500", "phases.experiment_ms < 1000",
    }  # fmt: skip
    (throughput,) = [one for one in scenario.criteria if one.published]
    assert throughput.published is not None
    assert throughput.published.startswith("102.2 ")


@pytest.mark.parametrize("name", ["quick", "migration"])
def test_the_tail_is_judged_against_the_reference_over_ten_paired_rounds(name: str) -> None:
    scenario = load(name).scenario
    ratios = [one for one in scenario.criteria if parse(one.expression).uses_reference]
    assert ratios
    for criterion in ratios:
        (place,) = cells_of(criterion, scenario)
        assert place == ("http", "log_metric", 20, "80 %", "")
        trials = [one for one in plan(scenario, Overrides()) if one.group == place[:4]]
        for candidate in scenario.candidates:
            assert len({one.round for one in trials if one.candidate == candidate}) >= 10
        assert all(one.min_writes >= 368 for one in trials)  # fewer have no p99


def test_the_gate_has_a_workload_of_each_kind() -> None:
    assert {work.kind for work in load("ci").scenario.workloads.values()} == set(KINDS)


def test_a_scenario_of_another_place_may_be_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD, encoding="utf-8")
    assert load(str(path)).scenario == parse_text(GOOD, "my.toml")
