"""`trackbench calibrate` as users start it, on real stores: what it says, what it leaves, how it ends."""

import json
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from commands import Answer, Command, refused

from bench import calibrate, cli
from bench.calibrate import LEVELS, Place

pytestmark = pytest.mark.servers
Start = Callable[..., Command]


@pytest.fixture
def start(public_tmp: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts the command; at the end of the test it must have left nothing."""
    with ExitStack() as stack:
        yield lambda *words: stack.enter_context(
            Command(public_tmp / f"{tmp_path.name}-calibrate", tmp_path / "out", "calibrate", *words)
        )


@pytest.fixture
def here(
    public_tmp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    """Runs the command in this process; it must leave its temporary folder empty."""
    temporary = public_tmp / f"{tmp_path.name}-here"
    temporary.mkdir(mode=0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))

    def command(*words: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["trackbench", "calibrate", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert list(temporary.iterdir()) == []
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return command


def check(found: Any, places: set[Place]) -> None:
    """What every sound self-test of two rounds says."""
    assert (found["exit_code"], found["faults"], found["broken"]) == (0, [], [])
    assert (found["recording"]["error_ns"], found["recording"]["wrong"]) == (0, 0)
    assert 0 < found["histogram_error"] <= 0.004 * (1 + 1e-9)
    assert found["timer"]["step_ns"] >= 1
    assert {one["timer"] for one in found["wakeups"]} >= {"engine's pacer"}
    assert len(found["machine"]["spin_ms"]) == len(found["machine"]["sync_ms"]) == 2
    assert {(one["store"], one["writers"], one["field"]) for one in found["twins"]} == {
        (*place, field) for place in places for field in ("metrics_per_s", "p99_ms")
    }
    rates = [one for one in found["twins"] if one["field"] == "metrics_per_s"]
    assert all(one["pairs"] == 2 and one["value"] > 0 and one["noise"] > 0 for one in rates)
    assert all(list(one["detects"]) == [str(level) for level in LEVELS] for one in rates)
    assert found["sentence"].startswith("10 rounds see a difference of ")


@pytest.mark.usefixtures("quick_start")
@pytest.mark.slow
def test_a_short_self_test(here: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "at_hand", lambda: (Place("sqlite", 1),))
    code, out, err = here("--rounds", "2", "--duration", "0.3", "--json")
    assert code == 0, err
    check(json.loads(out), {Place("sqlite", 1)})
    assert "trial 1 of 4" in err


@pytest.mark.slow
def test_the_whole_command(start: Start) -> None:
    command = start("--rounds", "2", "--duration", "0.3", "--json")
    assert command.wait() == 0, command.stderr
    check(json.loads(command.stdout), set(calibrate.at_hand()))
    assert {path.name for path in command.out.iterdir()} == {"stdout", "stderr"}


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["/trackbench-recorder-*", "/trackbench-calibrate-*/trials/0001-*/ledger/0000.bin"])
def test_an_interrupted_self_test_leaves_nothing(start: Start, pattern: str) -> None:
    command = start()
    command.until(pattern)
    command.send(signal.SIGINT)
    assert command.wait(60) == 130, command.stderr
    assert command.stdout == ""
    assert "Traceback" not in command.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rounds", "1"), "--rounds"),
        (("--rounds", "many"), "--rounds"),
        (("--duration", "nan"), "--duration nan"),
        (("--duration", "0"), "--duration 0"),
        (("x",), "trackbench calibrate --help"),
    ],
)
def test_bad_input_is_one_line(here: Callable[..., Answer], words: tuple[str, ...], said: str) -> None:
    assert said in refused(here(*words))
