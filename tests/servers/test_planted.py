"""Defects planted in real databases: each is found, in its exact number, and ends the run with the right code."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stores import carry_out, connected, new_run, sql

from bench import identity, loader, stands
from bench.cell import Cell, Integrity
from bench.identity import TrialKey
from bench.plan import Trial
from bench.results import Results
from bench.scenario import CandidateSpec, LoadedScenario, Prefill, parse_text
from bench.stand import Access
from bench.stand_sql import SqlStand
from bench.stores.url import StoreUrl
from bench.trial import Setting, run_trial

pytestmark = [pytest.mark.servers, pytest.mark.usefixtures("quick_start")]
Fresh = Callable[[str], StoreUrl]
THREE = ("sqlite", "postgresql", "mysql")
WRITERS, COUNT, STEPS = 2, 120, 40  # 3 keys a step
INTEGRITY = '[[criteria]]\nname = "whole"\nexpression = "integrity == 1"\n'
ULP = "2.220446049250313e-16"
OLD = "value = OLD.value, NEW.timestamp = OLD.timestamp, NEW.step = OLD.step, NEW.is_nan = OLD.is_nan"


def scenario(stores: Sequence[str], workload: str, more: str, count: int = COUNT, rounds: int = 1) -> str:
    candidates = "".join(f'[candidates.{name}]\nstore = "{name}"\n' for name in stores)
    return (
        f'title = "planted"\nrounds = {rounds}\nwarmup_s = 0.0\nduration_s = 60.0\n'
        f"[prefill]\nruns = 3\nmetrics = 30\n{candidates}[workloads.w]\n{workload}\n"
        f'[[cells]]\nworkload = "w"\nconcurrency = [{WRITERS}]\ncount = {count}\n{more}'
    )


def plant(url: StoreUrl, when: str, table: str, condition: str, actions: dict[str, str]) -> None:
    """A trigger for each row, in each database's own words; ``actions`` by store, or one for all."""
    family = "postgresql" if url.store == "timescaledb" else url.store.replace("mariadb", "mysql")
    action = actions.get(family) or actions["all"]
    with connected(url) as cursor:
        if family == "sqlite":
            cursor.execute(f"CREATE TRIGGER planted {when} ON {table} WHEN {condition} BEGIN {action}; END")
        elif family == "mysql":
            body = f"IF {condition} THEN {action}; END IF"
            cursor.execute(f"CREATE TRIGGER planted {when} ON {table} FOR EACH ROW BEGIN {body}; END".replace('"', "`"))
        else:
            body = f"BEGIN IF {condition} THEN {action}; END IF; RETURN NEW; END"
            cursor.execute(f"CREATE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql AS $${body}$$")
            cursor.execute(f"CREATE TRIGGER planted {when} ON {table} FOR EACH ROW EXECUTE FUNCTION planted()")


def cells(found: Results, stores: Sequence[str]) -> Iterator[Cell]:
    """The cell of each store, after a look at what all of them have in common."""
    assert {cell.store for cell in found.cells} == set(stores)
    for cell in found.cells:
        assert cell.integrity.checked, cell.integrity.reason
        assert cell.ops_ok == WRITERS * COUNT
        assert cell.ops_failed == cell.ops_unknown == 0
        yield cell


def counts(found: Integrity) -> dict[str, int]:
    """The defects that a check found, without zeros."""
    named = {name: getattr(found, name) for name in ("lost", "duplicated", "corrupted", "unexpected")}
    return {name: n for name, n in {**named, **found.invariants}.items() if n}


def broken(found: Results, stores: Sequence[str], expected: dict[str, int]) -> None:
    for cell in cells(found, stores):
        assert counts(cell.integrity) == expected, cell.store
        assert cell.integrity.examples
        assert cell.integrity_prefill is not None
        assert cell.integrity_prefill.checked
        assert counts(cell.integrity_prefill) == {}, cell.store
    assert found.exit_code == 4
    assert found.verdict == "fail"
    assert set(found.verdicts.values()) == {"fail"}


LOG_METRIC = 'kind = "log_metric"'


def test_nothing_planted(fresh: Fresh, tmp_path: Path) -> None:
    stores = ("sqlite", "postgresql", "timescaledb", "mysql")
    found = carry_out(scenario(stores, LOG_METRIC, INTEGRITY), {name: fresh(name) for name in stores}, tmp_path)
    for cell in cells(found, stores):
        assert [counts(door) for door in cell.doors] == [{}, {}]
    assert found.exit_code == 0


def test_swallowed_inserts_are_lost(fresh: Fresh, tmp_path: Path) -> None:
    """One step of forty never arrives. A MySQL trigger can't swallow, so there the row goes a moment later."""
    stores = ("sqlite", "postgresql", "timescaledb", "mysql")
    urls = {name: fresh(name) for name in stores}
    for name, url in urls.items():
        if name == "mysql":
            gone = 'DELETE FROM metrics WHERE run_uuid = NEW.run_uuid AND "key" = NEW."key" AND step = 17'
            plant(url, "AFTER UPDATE", "latest_metrics", "NEW.step = 17", {"all": gone})
        else:
            actions = {"sqlite": "SELECT RAISE(IGNORE)", "postgresql": "RETURN NULL"}
            plant(url, "BEFORE INSERT", "metrics", "NEW.step = 17", actions)
    found = carry_out(scenario(stores, LOG_METRIC, INTEGRITY), urls, tmp_path)
    broken(found, stores, {"lost": WRITERS * 3})


def test_a_changed_last_bit_is_corruption(fresh: Fresh, tmp_path: Path) -> None:
    """One value differs by its last bit or two, in one step."""
    urls = {name: fresh(name) for name in THREE}
    changed = f"NEW.value * (1 + {ULP})"
    actions = {
        "sqlite": f"UPDATE metrics SET value = {changed} WHERE rowid = NEW.rowid",
        "postgresql": f"NEW.value := {changed}",
        "mysql": f"SET NEW.value = {changed}",
    }
    for name, url in urls.items():
        when = "AFTER INSERT" if name == "sqlite" else "BEFORE INSERT"
        plant(url, when, "metrics", "NEW.step = 17 AND NEW.value > 1e-5 AND NEW.value < 1e5", actions)
    found = carry_out(scenario(THREE, LOG_METRIC, INTEGRITY), urls, tmp_path)
    for cell in cells(found, THREE):
        assert set(counts(cell.integrity)) == {"corrupted"}
        assert 0 < cell.integrity.corrupted == _ordinary_values(found, tmp_path, cell)
    assert found.exit_code == 4


def _ordinary_values(found: Results, out: Path, cell: Cell) -> int:
    """How many values of step 17 the trigger changed: those that are positive and of ordinary size."""
    record = next((out / "latest" / "trials").glob(f"*-{cell.candidate}-*"))
    prefixes = [example.split("run ")[1][:12] for example in cell.integrity.examples]
    assert record.exists()
    assert len(set(prefixes)) == 1
    key = _key_of(prefixes[0], int(record.name[:4]), found)
    ordinals = np.arange(17 * 3, 18 * 3)
    values = np.concatenate([identity.metrics(key, np.array([writer]), ordinals)[1] for writer in range(WRITERS)])
    return int(np.count_nonzero((values > 1e-5) & (values < 1e5)))


def _key_of(prefix: str, trial: int, found: Results) -> TrialKey:
    """A trial's key from the beginning of its run ids (as `TrialKey.of`, whose run id has a random part)."""
    import hashlib

    word = hashlib.sha256(f"{prefix[:8]}\n{found.run.seed}\n{trial}".encode()).digest()[:8]
    return TrialKey(prefix, int.from_bytes(word, "big"))


def test_a_row_in_one_of_our_runs_is_unexpected(fresh: Fresh, tmp_path: Path) -> None:
    urls = {name: fresh(name) for name in THREE}
    row = "1.5, 1, 1, {}, NEW.run_uuid)"
    columns = 'INSERT INTO metrics ("key", value, timestamp, step, is_nan, run_uuid) VALUES ('
    actions = {
        "sqlite": f"{columns}NEW.\"key\" || 'x', {row.format(0)}",
        "postgresql": f"{columns}NEW.\"key\" || 'x', {row.format('false')}",
        "mysql": f"{columns}CONCAT(NEW.\"key\", 'x'), {row.format(0)}",
    }
    ours = "SUBSTR(NEW.run_uuid, 9, 4) <> '0000'"  # not the prefill
    for url in urls.values():
        plant(url, "AFTER INSERT", "latest_metrics", ours, actions)
    found = carry_out(scenario(THREE, LOG_METRIC, INTEGRITY), urls, tmp_path)
    broken(found, THREE, {"unexpected": WRITERS * 3, "latest_metrics is the maximum": WRITERS * 3})


def test_latest_metrics_that_lag_break_an_invariant(fresh: Fresh, tmp_path: Path) -> None:
    urls = {name: fresh(name) for name in THREE}
    actions = {"sqlite": "SELECT RAISE(IGNORE)", "postgresql": "RETURN NULL", "mysql": f"SET NEW.{OLD}"}
    for url in urls.values():
        plant(url, "BEFORE UPDATE", "latest_metrics", f"NEW.step = {STEPS - 1}", actions)
    found = carry_out(scenario(THREE, LOG_METRIC, INTEGRITY), urls, tmp_path)
    broken(found, THREE, {"latest_metrics is the maximum": WRITERS * 3})


def test_a_deleted_param_is_lost(fresh: Fresh, tmp_path: Path) -> None:
    urls = {name: fresh(name) for name in THREE}
    gone = "DELETE FROM params WHERE run_uuid = NEW.run_uuid AND \"key\" LIKE '%n00000005'"
    for url in urls.values():
        plant(url, "AFTER INSERT", "tags", "NEW.\"key\" LIKE 'tag%n00000005'", {"all": gone})
    batches = 'kind = "log_batch"\nmetrics = 3\nparams = 1\ntags = 1'
    found = carry_out(scenario(THREE, batches, INTEGRITY), urls, tmp_path)
    broken(found, THREE, {"lost": WRITERS})


def test_a_changed_prefilled_row_is_corruption(fresh: Fresh, tmp_path: Path) -> None:
    """The first trial's writers touch a param of the second prefilled run."""
    urls = {name: fresh(name) for name in THREE}
    change = (
        "UPDATE params SET value = 'changed' WHERE SUBSTR(run_uuid, 9, 8) = '00000001' AND \"key\" LIKE '%n00000002'"
    )
    for url in urls.values():
        plant(url, "AFTER INSERT", "latest_metrics", "SUBSTR(NEW.run_uuid, 9, 4) <> '0000'", {"all": change})
    found = carry_out(scenario(THREE, LOG_METRIC, INTEGRITY), urls, tmp_path)
    for cell in cells(found, THREE):
        assert counts(cell.integrity) == {}, cell.store
        assert cell.integrity_prefill is not None
        assert cell.integrity_prefill.checked
        assert counts(cell.integrity_prefill) == {"corrupted": 1}, cell.store
        assert cell.integrity_prefill.examples
    assert (found.exit_code, found.verdict) == (4, "fail")
    assert set(found.verdicts.values()) == {"fail"}


@pytest.mark.parametrize("name", THREE)
def test_rows_of_strangers_in_a_private_store(fresh: Fresh, tmp_path: Path, name: str) -> None:
    """A private store is ours alone: a row more is unexpected, a row less is lost, whoever's run it is."""
    url = fresh(name)
    stranger, bystander = "a" * 32, "b" * 32
    add = f"INSERT INTO params (\"key\", value, run_uuid) VALUES (NEW.run_uuid, 'x', '{stranger}')"
    gone = f"DELETE FROM tags WHERE run_uuid = '{bystander}'"

    async def work() -> Any:
        spec = CandidateSpec.model_validate({"store": name})
        async with stands.stand(name, spec, Access(url), tmp_path, print) as ready:
            assert isinstance(ready, SqlStand)
            ready.theirs = False
            for run_id in (stranger, bystander):
                await new_run(ready.tracking, run_id)
            await ready.fill(Prefill(runs=2, metrics=10), TrialKey.of("r", 1, 0), "prefill")
            first = await run_trial(_trial(name, 1), setting, ready)
            plant(url, "AFTER UPDATE", "latest_metrics", "NEW.\"key\" = 'metric0000' AND NEW.step = 3", {"all": add})
            second = await run_trial(_trial(name, 2), setting, ready)
            sql(url, gone)
            third = await run_trial(_trial(name, 3), setting, ready)
            return first, second, third

    text = scenario([name], LOG_METRIC, INTEGRITY)
    loaded = LoadedScenario(name="private", text=text, scenario=parse_text(text, "private.toml"))
    setting = Setting("r", 1, loaded.scenario, tmp_path, loader.start)
    first, second, third = asyncio.run(work())
    for record in (first, second, third):
        assert record.error is None
        assert record.integrity.checked, record.integrity.reason
    assert not first.integrity.broken
    assert (second.integrity.unexpected, second.integrity.lost) == (WRITERS, 0)
    assert (third.integrity.unexpected, third.integrity.lost) == (2 * WRITERS, 1)


def _trial(name: str, number: int) -> Trial:
    return Trial(number, 0, name, "direct", "w", WRITERS, 0.0, 60.0, 30, 0, WRITERS)


@pytest.mark.slow
def test_a_slow_store_fails_its_tail(fresh: Fresh, tmp_path: Path) -> None:
    """Nothing is wrong with the data: a criterion failed, which is exit code 1."""
    stores = ("postgresql", "mysql")
    urls = {name: fresh(name) for name in stores}
    actions = {"postgresql": "PERFORM pg_sleep(0.06)", "mysql": "DO SLEEP(0.06)"}
    for url in urls.values():
        plant(url, "BEFORE INSERT", "metrics", "NEW.step % 20 = 0 AND SUBSTR(NEW.run_uuid, 9, 4) <> '0000'", actions)
    tail = '[[criteria]]\nname = "tail"\nexpression = "p99_ms <= 40"\n'
    found = carry_out(scenario(stores, LOG_METRIC, INTEGRITY + tail, count=200, rounds=2), urls, tmp_path)
    assert [item.outcome for item in found.criteria if item.name == "tail"] == ["fail", "fail"]
    assert [item.outcome for item in found.criteria if item.name == "whole"] == ["pass", "pass"]
    assert (found.exit_code, found.verdict) == (1, "fail")
