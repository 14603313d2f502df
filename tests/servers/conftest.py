"""Fixtures over the session's real servers."""

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands import SHORT, Answer, Ask, scenario
from stores import NAMES, Park

from bench import cli
from bench.stores import schema
from bench.stores.url import StoreUrl


@pytest.fixture(scope="session")
def park() -> Iterator[Park]:
    """The servers of this session, stopped at its end."""
    opened = Park()
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture(scope="session")
def public_tmp() -> Iterator[Path]:
    """A folder that the servers' user may enter too; pytest's own is closed to it."""
    folder = Path(tempfile.mkdtemp(prefix="tests-of-trackbench-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def revisions() -> schema.Revisions:
    """The schema revisions that MLflow knows, asked of it once."""
    return asyncio.run(schema.revisions())


@pytest.fixture
def quick_start(revisions: schema.Revisions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in this process need not ask MLflow for its revisions each time: that takes seconds."""

    async def known() -> schema.Revisions:
        return revisions

    monkeypatch.setattr(schema, "revisions", known)


@pytest.fixture
def fresh(park: Park, tmp_path: Path) -> Callable[[str], StoreUrl]:
    """Gives a store by name, with MLflow's schema and nothing else in it."""
    return lambda name: park.fresh(name, tmp_path)


@pytest.fixture(params=NAMES)
def url(request: pytest.FixtureRequest, fresh: Callable[[str], StoreUrl]) -> StoreUrl:
    """A fresh store of each kind in turn."""
    return fresh(request.param)


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Runs ``trackbench run`` on a scenario's text in this process: (exit code, stdout, stderr)."""
    file = tmp_path / "tiny.toml"

    def command(*arguments: str, text: str = "") -> Answer:
        file.write_text(text or scenario(["sqlite"], **SHORT))
        words = ["trackbench", "run", str(file), "--out", str(tmp_path / "results"), *arguments]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return command
