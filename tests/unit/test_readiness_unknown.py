"""What could not be looked at is told as unknown, with a remedy, and takes no other check along."""

import ast
import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bench import readiness
from bench.errors import BadInput
from bench.migrate.catalog import TRACKING, Catalog
from bench.readiness import backup, growth
from bench.readiness.backup import Backup, Moment
from bench.readiness.check import Check
from bench.readiness.growth import Disk, Pace, Size
from bench.readiness.scene import Question, Scene, answer
from bench.readiness.tools import ToolFailed
from bench.servers import RunningServer
from bench.stores import store_for
from bench.stores.base import Session
from bench.stores.url import StoreUrl


class Planted(Backup):
    """A backup of an empty file that fails at one step."""

    kind = None

    def __init__(self, scene: Scene, step: str, error: Exception) -> None:
        super().__init__(scene)
        self.step, self.error = step, error

    def at(self, step: str) -> None:
        if step == self.step:
            raise self.error

    async def prepare(self) -> None:
        self.at("prepare")

    @asynccontextmanager
    async def moment(self) -> AsyncIterator[Moment]:
        yield Moment(self.scene.session)

    async def dump(self, moment: Moment, folder: Path) -> Path:
        self.at("dump")
        file = folder / "dump"
        file.touch()
        return file

    async def restore(self, file: Path, server: RunningServer | None) -> StoreUrl:
        self.at("restore")
        return StoreUrl("sqlite", path=file)  # which holds no store: the comparison fails


async def tried(path: Path, step: str, error: Exception) -> tuple[Check, set[str]]:
    url = StoreUrl("sqlite", path=path)
    store = store_for(url)
    session: Session = await store.connect()
    try:
        scene = Scene(url, store, session)
        catalog = Catalog("sqlite", TRACKING, "head", {})
        check, seconds = await backup.check(Planted(scene, step, error), catalog, 0, lambda _: None)
    finally:
        await session.close()
    return check, set(seconds)


@pytest.mark.parametrize(
    ("step", "error", "outcome", "found", "seconds"),
    [
        ("prepare", RuntimeError("the connection\nis gone"), "unknown", "not finished: the connection", set()),
        ("dump", OSError(28, "No space left on device"), "unknown", "No space left on device", {"backup"}),
        ("dump", ToolFailed("pg_dump: permission denied"), "fail", "pg_dump: permission denied", {"backup"}),
        ("restore", BadInput("a: b; c"), "unknown", "not finished: a: b; c", {"backup", "restore"}),
        ("restore", ToolFailed("no x"), "unknown", "could not be restored here: no x", {"backup", "restore"}),
        ("compare", ValueError(), "unknown", "not finished: ", {"backup", "restore", "proof"}),
    ],
)
def test_a_backup_that_goes_wrong_anywhere(
    step: str, error: Exception, outcome: str, found: str, seconds: set[str], tmp_path: Path
) -> None:
    path = tmp_path / "mlflow.db"
    path.touch()
    check, times = asyncio.run(tried(path, step, error))
    assert (check.outcome, times) == (outcome, seconds)
    assert found in check.found
    assert "\n" not in check.found
    assert ("--no-backup" in check.remedy) == ("not finished" in check.found)
    assert check.remedy


def test_growth_that_takes_too_long_is_unknown_by_itself() -> None:
    async def slow() -> list[Pace]:
        raise RuntimeError("canceling statement due to statement timeout")

    check = asyncio.run(growth.counted(slow(), [Size("metrics", 1, 1)], 1, Disk(1, 1)))
    assert (check.name, check.outcome) == ("growth", "unknown")
    assert "statement timeout" in check.found
    assert check.remedy


@pytest.mark.parametrize(("right", "remedy"), [("GRANT x", "GRANT x"), ("", "try again")])
def test_a_question_that_cannot_be_asked_has_a_remedy(right: str, remedy: str) -> None:
    async def ask() -> Sequence[Check]:
        raise RuntimeError("no")

    (check,) = asyncio.run(answer(Question("n", "t", ask, right), None))
    assert (check.outcome, remedy in check.remedy) == ("unknown", True)


def test_every_check_that_may_not_pass_is_made_with_a_remedy() -> None:
    """By the source: a call without one must say that it passes."""
    assert readiness.__file__ is not None
    lacking = []
    for file in sorted(Path(readiness.__file__).parent.glob("*.py")):
        for call in ast.walk(ast.parse(file.read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Check":
                given = {word.arg: word.value for word in call.keywords}
                outcome = given["outcome"]
                passes = isinstance(outcome, ast.Constant) and outcome.value == "pass"
                if not passes and "remedy" not in given:
                    lacking.append(f"{file.name}:{call.lineno}")
    assert lacking == []
