"""Whole HTTP trials: Locust's users, a real MLflow server on each store, and the proof through both doors."""

import struct
import time
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from fleet import USERS, Fleet, Kept, counts, disturbed
from stores import NAMES, Park, sql

from bench import samples
from bench.arrivals import due_times
from bench.cell import Integrity
from bench.outcome import Outcome
from bench.plan import Pace, Trial
from bench.rates import arrivals
from bench.trial_record import TrialRecord

pytestmark = pytest.mark.servers
RUN_ROWS = {"runs": 1, "metrics": 6, "latest_metrics": 2, "params": 2, "tags": 3}  # of one run of `train`
ELEMENTS = 1 + 1 + 6 + 2 + 2  # what its ledger knows of it: run, end, metrics, params, tags


def slow(*names: str) -> list[Any]:
    """These parameters for nightly runs only."""
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.fixture(scope="module")
def fleet(park: Park, public_tmp: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """All four stores, each with its MLflow server."""
    opened = Fleet(tmp_path_factory.mktemp("fleet"))
    try:
        opened.start(park, NAMES, public_tmp)
        yield opened
    finally:
        opened.close()


def intact(door: Integrity | None) -> Integrity:
    """A check that was made and found nothing wrong."""
    assert door is not None
    assert door.checked, door.reason
    assert not door.broken, door.examples
    assert door.invariants
    return door


def measured_well(record: TrialRecord, folder: Path, name: str, kind: str) -> None:
    """What every good trial of a fleet has."""
    assert (record.error, record.store, record.driver) == (None, name, "http")
    assert (record.ops_failed, record.ops_unknown, record.errors, record.lock_errors) == (0, 0, {}, 0)
    assert record.first_attempts_ok == record.ops_ok == sum(one.ok for one in record.operations.values())
    assert record.server_errors is not None
    hidden = dict(record.server_errors)
    assert hidden.pop("mysql_1213_deadlock", 0) == (record.referee["deadlocks"] or 0)  # MLflow tries those again
    assert hidden == {}
    assert record.runs_unfinished == (0 if kind == "train" else None)
    by_sql = intact(record.integrity)
    by_rest = by_sql if kind == "traces" else intact(record.integrity_rest)  # spans are compared by SQL only
    assert by_sql.attempted == by_sql.acknowledged > 0
    assert {field: getattr(by_rest, field) for field in ("attempted", "acknowledged", "stored")} == {
        field: getattr(by_sql, field) for field in ("attempted", "acknowledged", "stored")
    }
    assert (record.referee["commits"] or 0) > 0
    if name != "sqlite":
        assert record.referee["deadlocks"] is not None
        assert 0 < (record.referee["connections_share"] or 0) < 1
    assert record.availability is not None
    assert record.availability.health.ok == record.availability.health.n > 0
    assert record.availability.search.ok > 0
    assert (record.generator.cpu_share or 0) > 0
    assert {"load.log", "mlflow.log", "samples.parquet", "trial.json"} <= {path.name for path in folder.iterdir()}
    assert "/api/2.0/mlflow/runs/" in (folder / "mlflow.log").read_text() or kind == "traces"
    assert not list(folder.glob("*.raw"))


def carried_out(fleet: Fleet, name: str, kind: str, count: int) -> TrialRecord:
    before = fleet.rows(name)
    record, folder = fleet.trial(name, kind, count)
    measured_well(record, folder, name, kind)
    assert fleet.rows(name) == before
    assert list(fleet.stands[name].ours) == [fleet.prefilled(name)]
    secrets = [one for one in (fleet.stands[name].url.password, fleet.stands[name].url.mlflow) if one]
    for path in folder.rglob("*"):
        assert path.is_dir() or not [one for one in secrets if one.encode() in path.read_bytes()], path
    return record


@pytest.mark.parametrize("name", NAMES)
def test_experiments_of_users_who_train(fleet: Fleet, name: str) -> None:
    record = carried_out(fleet, name, "train", count=26)  # two runs each
    assert {kind: one.ok for kind, one in record.operations.items()} == {
        "create_experiment": 4, "create_run": 4, "log_param": 8, "set_tag": 8, "log_metric": 24, "finish_run": 4,
    }  # fmt: skip
    assert record.integrity.attempted == 4 * (ELEMENTS + 1)
    assert set(record.phases_ms) == {"create", "params", "steps", "experiment"}
    assert record.phases_ms["experiment"] >= sum(record.phases_ms[one] for one in ("create", "params", "steps"))


@pytest.mark.parametrize("name", ["sqlite", "mysql", *slow("postgresql", "timescaledb")])
def test_batches_with_reads_among_them(fleet: Fleet, name: str) -> None:
    record = carried_out(fleet, name, "mixed", count=12)
    done = {kind: one.ok for kind, one in record.operations.items()}
    assert done["log_batch"] == USERS * 6
    assert done.keys() == {"log_batch", "search_runs", "metric_history", "get_run"}
    assert sum(done.values()) == USERS * 12
    assert record.integrity.attempted == USERS * (1 + 6 * (3 + 1 + 1))  # their runs, and what is in them


@pytest.mark.parametrize("name", ["mysql", *slow(*NAMES[:3])])
def test_traces(fleet: Fleet, name: str) -> None:
    record = carried_out(fleet, name, "traces", count=8)
    assert {kind: one.ok for kind, one in record.operations.items()} == {
        "start_trace": 6, "log_spans": 6, "search_traces": 4,
    }  # fmt: skip
    assert record.integrity.attempted == 6 * (1 + 3)


def due_of(record: TrialRecord, pace: Pace, seconds: float) -> list[int]:
    """What was due in so many seconds of a fleet's trial, in ns since it began; the seed is that of its round."""
    planned = Trial(record.number, 0, record.candidate, "http", record.workload, USERS, 0, 1, None, 0, USERS, pace)
    schedule = arrivals(planned, 1)
    assert schedule is not None
    return list(takewhile(lambda due: due < seconds * 1e9, due_times(schedule)))


def test_an_open_loop_keeps_its_schedule(fleet: Fleet) -> None:
    pace = Pace(40.0, arrivals="poisson")
    record, folder = fleet.trial("postgresql", "log_metric", None, pace=pace, warmup_s=0.5, duration_s=1.5)
    measured_well(record, folder, "postgresql", "log_metric")
    taken = samples.load(folder / "samples.parquet")
    due = due_of(record, pace, 2.0)
    assert sorted(taken.scheduled_ns.tolist()) == due
    assert set(taken.writer.tolist()) == {0, 1}
    assert record.load == "40/s"
    assert record.schedule is not None
    assert record.schedule.due == len([one for one in due if one >= 0.5e9])
    assert (record.schedule.rate, record.schedule.skipped, record.schedule.late) == (40.0, 0, None)
    assert record.integrity.acknowledged == len(due) + USERS  # and their runs


@pytest.mark.slow
def test_a_server_that_stops_shows_from_the_schedule_and_not_from_the_start(fleet: Fleet) -> None:
    """For 2 s of 16. Each user has one operation in flight then: of 640 that is less than the percentile sees."""

    def stop(_: object) -> None:
        server = fleet.stands["postgresql"].server
        assert server is not None
        processes = [psutil.Process(pid) for pid in server.pids()]
        for one in processes:
            one.suspend()
        time.sleep(2)
        for one in processes:
            one.resume()

    pace = Pace(40.0, arrivals="constant")
    start = disturbed(stop, after=200)
    record, folder = fleet.trial("postgresql", "log_metric", None, start, pace=pace, warmup_s=1.0, duration_s=16.0)
    assert record.error is None
    taken = samples.load(folder / "samples.parquet")
    assert sorted(taken.scheduled_ns.tolist()) == due_of(record, pace, 17.0)
    assert set(taken.outcome.tolist()) == {Outcome.OK}
    assert int(np.count_nonzero(taken.service_ms > 1000)) <= USERS
    response, service = record.write_response.p99, record.write_service.p99
    assert response is not None
    assert service is not None
    assert response >= 1000
    assert service < 500
    assert record.integrity.checked
    assert not record.integrity.broken


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["log_metric", "log_batch", "read"])
@pytest.mark.parametrize("name", NAMES)
def test_the_other_workloads(fleet: Fleet, name: str, kind: str) -> None:
    record, folder = fleet.trial(name, kind, count=20)
    if kind == "read":
        assert record.ops_ok == USERS * 20
        assert intact(record.integrity).attempted == intact(record.integrity_rest).attempted == 0
        return
    measured_well(record, folder, name, kind)
    assert record.integrity.attempted == USERS * (1 + 20 * (1 if kind == "log_metric" else 9))


# What is planted, and what each door must then say: (by SQL, over REST).

Both = tuple[dict[str, int], dict[str, int]]
Plant = Callable[[Kept], Both]


def same(**found: int) -> Both:
    return found, found


def a_flipped_bit(kept: Kept) -> Both:
    """One value's last bit: no eye sees it, and no tolerance would."""
    run = kept.runs[0]
    for key, step, value in sorted(
        sql(kept.url, f"SELECT {kept.key}, step, value FROM metrics WHERE run_uuid = '{run}'")
    ):
        bits = struct.unpack(">q", struct.pack(">d", value))[0]
        changed = struct.unpack(">d", struct.pack(">q", bits ^ 1))[0]
        if step < 2 and np.isfinite(changed) and abs(value) > 1e-5:
            where = f"run_uuid = '{run}' AND {kept.key} = '{key}' AND step = {step}"
            sql(kept.url, f"UPDATE metrics SET value = {kept.mark} WHERE {where}", changed)
            return same(corrupted=1)
    raise AssertionError("no ordinary value")


def a_deleted_metric(kept: Kept) -> Both:
    sql(kept.url, f"DELETE FROM metrics WHERE run_uuid = '{kept.runs[1]}' AND step = 0 AND {kept.key} = 'metric0001'")
    return same(lost=1)


def a_changed_param(kept: Kept) -> Both:
    sql(
        kept.url,
        f"UPDATE params SET value = 'changed' WHERE run_uuid = '{kept.runs[0]}' AND {kept.key} LIKE '%n00000001'",
    )
    return same(corrupted=1)


def a_deleted_tag(kept: Kept) -> Both:
    kept.post("runs/delete-tag", run_id=kept.runs[0], key="tag0000n00000001")
    return same(lost=1)


def a_run_in_the_trash(kept: Kept) -> Both:
    kept.post("runs/delete", run_id=kept.runs[0])
    return same(corrupted=1)


def an_experiment_in_the_trash(kept: Kept) -> Both:
    """MLflow puts its run there too."""
    kept.post("experiments/delete", experiment_id=str(kept.experiments[0]))
    return same(corrupted=2)


def a_renamed_run(kept: Kept) -> Both:
    """All that it has is lost; by SQL whole tables have rows too many, over REST a run has no ledger."""
    kept.post("runs/update", run_id=kept.runs[0], run_name="renamed")
    by_sql = {"lost": ELEMENTS, "unexpected": sum(RUN_ROWS.values())}
    orphans = {"no row without its run": 1, "runs have their name tag": 1}
    return by_sql, {"lost": ELEMENTS, "unexpected": 1 + 6 + 2 + 2, **orphans}


def a_second_run_of_one_name(kept: Kept) -> Both:
    kept.post("runs/create", experiment_id=str(kept.experiments[0]), run_name=kept.names[0], start_time=1)
    found = {"duplicated": 1, "run ids are unique": 1, "runs have their name tag": 1}
    return found, found


def a_swap_of_experiments(kept: Kept) -> Both:
    for run, experiment in zip(kept.runs, reversed(kept.experiments), strict=True):
        sql(kept.url, f"UPDATE runs SET experiment_id = {experiment} WHERE run_uuid = '{run}'")
    found = {"runs have their experiment": 2}
    return found, found


def a_run_in_a_strange_experiment(kept: Kept) -> Both:
    """Over REST runs are looked for where they belong."""
    sql(kept.url, f"UPDATE runs SET experiment_id = 0 WHERE run_uuid = '{kept.runs[0]}'")
    return {"runs have their experiment": 1}, {"lost": ELEMENTS}


def an_experiment_that_nobody_made(kept: Kept) -> Both:
    kept.post("experiments/create", name=kept.expected.layout.key.name(0, 7))
    return same(unexpected=1)


def a_stale_latest_metric(kept: Kept) -> Both:
    where = f"run_uuid = '{kept.runs[1]}' AND {kept.key} = 'metric0000'"
    sql(kept.url, f"UPDATE latest_metrics SET step = 1 WHERE {where}")
    found = {"latest_metrics is the maximum": 1}
    return found, found


def another_name_tag(kept: Kept) -> Both:
    sql(kept.url, f"UPDATE tags SET value = 'x' WHERE run_uuid = '{kept.runs[0]}' AND {kept.key} = 'mlflow.runName'")
    found = {"runs have their name tag": 1}
    return found, found


def an_end_that_came_later(kept: Kept) -> Both:
    sql(kept.url, f"UPDATE runs SET end_time = end_time + 1 WHERE run_uuid = '{kept.runs[0]}'")
    return same(corrupted=1)


def a_run_that_never_ended(kept: Kept) -> Both:
    sql(kept.url, f"UPDATE runs SET end_time = NULL WHERE run_uuid = '{kept.runs[0]}'")
    return {"corrupted": 1, "status and end time agree": 1}, {"corrupted": 1, "status and end time agree": 1}


def a_run_of_a_stranger_in_their_database(kept: Kept) -> Both:
    """Others may write there, so whole tables are not counted: only REST looks at all runs of our experiments."""
    kept.stand.theirs = True
    kept.post("runs/create", experiment_id=str(kept.experiments[0]), run_name="stranger", start_time=1)
    return {}, {"unexpected": 1, "runs have their name tag": 1, "no row without its run": 0}


PLANTED: list[Plant] = [
    a_flipped_bit, a_deleted_metric, a_changed_param, a_deleted_tag, a_run_in_the_trash, an_experiment_in_the_trash,
    a_renamed_run, a_second_run_of_one_name, a_swap_of_experiments, a_run_in_a_strange_experiment,
    an_experiment_that_nobody_made, a_stale_latest_metric, another_name_tag, an_end_that_came_later,
    a_run_that_never_ended, a_run_of_a_stranger_in_their_database,
]  # fmt: skip


@pytest.fixture(scope="module", params=["postgresql", *slow("sqlite", "mysql")])
def kept(fleet: Fleet, request: pytest.FixtureRequest) -> Iterator[Kept]:
    """What a trial of two users who train left: a run each."""
    before = fleet.rows(request.param)
    made = Kept(fleet, request.param, "train", count=13)
    assert [counts(tally) for tally in made.look()] == [{}, {}]
    yield made
    made.remove()
    assert fleet.rows(request.param) == before


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_what_is_planted_is_found_through_its_door(kept: Kept, plant: Plant) -> None:
    try:
        by_sql, by_rest = plant(kept)
        found = kept.look()
        assert [counts(tally) for tally in found] == [by_sql, {name: n for name, n in by_rest.items() if n}]
        assert all(tally.examples for tally in found if tally.wrong > tally.invariants.total())
    finally:
        kept.mend()
