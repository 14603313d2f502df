"""Follows a source that others write to, and the command line of a migration."""

import asyncio
import json
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import migrated
import pytest
from commands import Command
from migrated import Prepared, Quiet, nasty
from stores import Park, wait_until

from bench import cli
from bench.migrate import follow
from bench.migrate.catalog import OURS, reflect
from bench.migrate.follow import Stopped
from bench.migrate.migration import Options
from bench.migrate.record import Migration
from bench.stores.url import StoreUrl

pytestmark = pytest.mark.servers

Tell = Callable[..., tuple[int, str, str]]


@pytest.fixture
def quickly(park: Park, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    migrated.install(monkeypatch, Prepared(park, tmp_path))


@pytest.fixture
def source(tmp_path: Path) -> StoreUrl:
    return nasty(tmp_path / "source.db", metrics=300, runs=3)


@pytest.fixture
def tell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tell:
    """``trackbench migrate`` in this process: exit code, stdout, stderr."""

    def command(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["trackbench", "migrate", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return command


class Writer(Quiet):
    """Writes to the source between the passes, and stops in the middle of the second."""

    def __init__(self, source: StoreUrl, stopped: Stopped) -> None:
        super().__init__()
        self.source, self.stopped = source, stopped

    def say(self, text: str) -> None:
        super().say(text)
        if text.startswith("pass 1"):
            self.write("INSERT INTO params VALUES ('late', 'one', (SELECT MIN(run_uuid) FROM runs))")
            self.write("DELETE FROM tags")
        if text.startswith("pass 2"):
            self.write("UPDATE params SET value = 'two' WHERE key = 'late'")
            self.stopped.say()

    def write(self, statement: str) -> None:
        assert self.source.path is not None
        with closing(sqlite3.connect(self.source.path)) as connection:
            connection.execute(statement)
            connection.commit()


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("mysql", marks=pytest.mark.slow)])
def test_follow(source: StoreUrl, park: Park, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    target = park.empty(kind, tmp_path)
    monkeypatch.setattr(follow, "PAUSE_S", 0.0)

    async def followed() -> Migration:
        stopped = Stopped()
        return await follow.follow(source.mlflow, target, Options(client=False), Writer(source, stopped), stopped)

    found = asyncio.run(followed())
    assert found.proof is not None
    assert found.proof.equal, found.proof
    _, second, last = found.passes
    assert (second.inserted, second.updated, last.inserted, last.updated) == (1, 0, 0, 1)
    assert second.deleted > 0
    assert found.frozen_to_proof_s is not None
    assert 0 < found.frozen_to_proof_s < sum(found.seconds.values())
    assert OURS not in reflect(target).tables


def test_a_line_or_a_signal_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    async def told(say: Callable[[int], object]) -> float | None:
        stopped, (reading, writing) = Stopped(), os.pipe()
        with os.fdopen(reading) as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            with follow.listening(stopped):
                say(writing)
                await stopped.within(20)
                os.write(writing, b"\n")  # the thread that reads ends as well
                os.close(writing)
        return stopped.at

    assert asyncio.run(told(lambda writing: os.write(writing, b"stopped\n"))) is not None
    assert asyncio.run(told(lambda _: os.kill(os.getpid(), signal.SIGUSR1))) is not None


@pytest.mark.usefixtures("quickly")
def test_the_command(source: StoreUrl, tmp_path: Path, tell: Tell) -> None:
    target = tmp_path / "target.db"
    code, out, _ = tell(source.mlflow, f"sqlite:///{target}", "--dry-run")
    assert (code, target.exists()) == (0, False)
    assert "no row stands against it" in out
    code, out, err = tell(source.mlflow, f"sqlite:///{target}", "--no-client")
    assert code == 0, err
    assert "proved equal to the bit" in out
    assert "writers of the source waited for the snapshot" in out
    code, _, err = tell(source.mlflow, f"sqlite:///{target}")
    assert (code, err.count("\n")) == (2, 1)
    assert "not empty" in err
    other = tmp_path / "other.db"
    code, out, _ = tell(source.mlflow, f"sqlite:///{other}", "--no-client", "--json")
    assert code == 0
    assert Migration.model_validate(json.loads(out)).proof is not None


@pytest.mark.usefixtures("quickly")
def test_the_command_names_what_does_not_fit(source: StoreUrl, tmp_path: Path, tell: Tell) -> None:
    assert source.path is not None
    with closing(sqlite3.connect(source.path)) as connection:
        connection.execute("INSERT INTO tags VALUES ('odd', CAST(x'ff' AS TEXT), (SELECT MIN(run_uuid) FROM runs))")
        connection.commit()
    for more in ([], ["--dry-run"]):
        code, out, _ = tell(source.mlflow, f"sqlite:///{tmp_path / 'target.db'}", *more)
        assert code == 2
        assert 'tags.value: 1 row (key="odd", run_uuid=' in out
        assert "nothing was moved" in out


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted(source: StoreUrl, tmp_path: Path, sent: signal.Signals, code: int) -> None:
    """It says how to go on, leaves no child and no folder, and the same command continues."""
    words = ["migrate", source.mlflow, f"sqlite:///{tmp_path / 'target.db'}", "--no-client"]
    with Command(tmp_path / "tmp1", tmp_path / "out1", *words, "--follow") as command:
        wait_until(lambda: "following the source" in command.stdout, "the first pass", 120)
        command.send(sent)
        assert command.wait() == code
        assert "the same command continues" in command.stdout
    with Command(tmp_path / "tmp2", tmp_path / "out2", *words) as command:
        assert command.wait() == 0, command.stderr
        assert "continuing: finished" in command.stdout
