"""A trial looks at its store over a connection of its own; what happens to that must not cost the run more."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from commands import scenario
from stores import soon, sql

from bench import loader, stands
from bench.plan import Trial
from bench.scenario import CandidateSpec, LoadedScenario, parse_text
from bench.stand import Access
from bench.stand_sql import SqlStand
from bench.stores.url import StoreUrl
from bench.trial import Setting, run_trial
from bench.trial_record import TrialRecord

pytestmark = [pytest.mark.servers, pytest.mark.usefixtures("quick_start")]
NAMES = ("postgresql", "mysql")


@asynccontextmanager
async def stand_at(url: StoreUrl, folder: Path) -> AsyncIterator[SqlStand]:
    spec = CandidateSpec.model_validate({"store": url.store})
    async with stands.stand("c", spec, Access(url), folder, print) as ready:
        assert isinstance(ready, SqlStand)
        yield ready


def trial(ready: SqlStand, folder: Path, number: int) -> asyncio.Task[TrialRecord]:
    """A trial of a second."""
    text = scenario([ready.store.name])
    loaded = LoadedScenario(name="tiny", text=text, scenario=parse_text(text, "tiny.toml"))
    setting = Setting("r", 1, loaded.scenario, folder, loader.start)
    planned = Trial(number, 0, "c", "direct", "w", 2, 0.0, 1.0, None, 0, 2)
    return asyncio.ensure_future(run_trial(planned, setting, ready))


def good(record: TrialRecord) -> bool:
    return record.error is None and record.ops_ok > 0 and record.integrity.checked and not record.integrity.broken


@pytest.mark.parametrize("name", NAMES)
def test_a_trial_may_end_in_the_middle_of_a_look(
    fresh: Callable[[str], StoreUrl], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    url = fresh(name)
    sleep = "SELECT pg_sleep(0.4)" if name == "postgresql" else "SELECT SLEEP(0.4)"

    async def work() -> list[TrialRecord]:
        async with stand_at(url, tmp_path) as ready:
            quick = ready.store.gauges

            async def slow(session: object) -> dict[str, float]:
                await ready.session.fetch(sleep)
                return await quick(ready.session)

            monkeypatch.setattr(ready.store, "gauges", slow)
            return [await trial(ready, tmp_path, number) for number in (1, 2)]

    records = asyncio.run(work())
    assert [record.error for record in records] == [None, None]
    assert all(good(record) for record in records)
    assert all(record.referee["connections"] for record in records)


@pytest.mark.parametrize("name", NAMES)
def test_a_connection_that_is_killed_costs_one_trial(
    fresh: Callable[[str], StoreUrl], tmp_path: Path, name: str
) -> None:
    url = fresh(name)
    who, kill = {
        "postgresql": ("SELECT pg_backend_pid()", "SELECT pg_terminate_backend({})"),
        "mysql": ("SELECT CONNECTION_ID()", "KILL {}"),
    }[name]

    async def work() -> list[TrialRecord]:
        async with stand_at(url, tmp_path) as ready:
            number = (await ready.session.fetch(who))[0][0]
            first = trial(ready, tmp_path, 1)
            await soon(lambda: list(tmp_path.glob("trials/0001-*/ledger/0001.bin")), "the first trial")
            sql(url, kill.format(number))
            return [await first, await trial(ready, tmp_path, 2)]

    first, second = asyncio.run(work())
    assert first.error is not None
    assert not first.integrity.checked
    assert good(second), second
    assert sql(url, "SELECT COUNT(*) FROM runs")[0][0] == 0
    assert sql(url, "SELECT COUNT(*) FROM experiments")[0][0] == 1  # MLflow's own
