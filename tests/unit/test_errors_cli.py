"""Whatever is wrong on the command line ends in exit code 2 and one line, without a traceback or a password."""

import subprocess
import sys
from pathlib import Path

import click
import pytest
from called import Call, Ended, caller
from hypothesis import given, settings
from hypothesis import strategies as st
from made import a_result

from bench import cli, signals
from bench.environment import command_line, hide_password
from bench.errors import BadInput, ExitCode

SECRET = "hunter2hunter2"


@pytest.fixture
def trackbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    monkeypatch.chdir(tmp_path)

    return caller(monkeypatch, capsys)


def assert_refused(ended: Ended, *parts: str) -> None:
    assert ended.code == 2
    assert ended.out == ""
    lines = ended.err.splitlines()
    assert len(lines) == 1, ended.err
    assert lines[0].startswith("trackbench: ")
    for part in parts:
        assert part in lines[0]


BAD = {
    "unknown scenario": (["run", "no-such"], ["'no-such'", "quick"]),
    "unknown store": (["run", "quick", "--store", "oracle"], ["'oracle'", "sqlite, postgresql"]),
    "malformed URL": (["run", "quick", "--store", f"mysql=mysql:/u:{SECRET}@h/d"], ["mysql+pymysql://"]),
    "URL of no database": (["run", "quick", "--store", f"mysql=mysql://u:{SECRET}@h"], ["names no database"]),
    "URL of another family": (["run", "quick", "--store", f"mysql=postgresql://u:{SECRET}@h/d"], ["postgresql URL"]),
    "tracking store of no kind": (["run", "quick", "--track", f"oracle://u:{SECRET}@h/d"], ["oracle", "sqlite:///"]),
    "history without a store": (["history"], ["--track"]),
    "budget of no time": (["run", "quick", "--until-decided", "--budget", "0"], ["--budget", "0"]),
    "comparison with nothing": (["compare", "/nonexistent/run", "/nonexistent/run"], ["/nonexistent/run"]),
    "calibrating in no rounds": (["calibrate", "--rounds", "0"], ["--rounds", "0"]),
    "URL without a name": (["run", "quick", "--store", f"postgresql://u:{SECRET}@h/d"], ["--store", "NAME"]),
    "variable not set": (["run", "quick", "--store", "mysql=env:TRACKBENCH_NO_SUCH"], ["TRACKBENCH_NO_SUCH"]),
    "concurrency 0": (["run", "quick", "--concurrency", "0"], ["--concurrency 0", "between 1 and 1000"]),
    "concurrency abc": (["run", "quick", "--concurrency", "abc"], ["'abc'", "1,5,20"]),
    "concurrency of nothing": (["run", "quick", "--concurrency", ""], ["1,5,20"]),
    "concurrency with a hole": (["run", "quick", "--concurrency", "1,,5"], ["1,5,20"]),
    "concurrency 1001": (["run", "quick", "--concurrency", "5,1001"], ["1001", "between 1 and 1000"]),
    "rounds 0": (["run", "quick", "--rounds", "0"], ["--rounds"]),
    "rounds of words": (["run", "quick", "--rounds", "ten"], ["--rounds", "'ten'"]),
    "duration 0": (["run", "quick", "--duration", "0"], ["--duration"]),
    "negative seed": (["run", "quick", "--seed", "-1"], ["--seed"]),
    "unknown option": (["run", "quick", "--fast"], ["--fast", "--help"]),
    "unknown command": (["bench"], ["'bench'", "--help"]),
    "no scenario": (["run"], ["SCENARIO"]),
    "two scenarios": (["run", "quick", "ci"], ["ci"]),
    "no run": (["report"], ["RUN"]),
    "missing run": (["report", "nowhere"], ["nowhere", "results/"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(name: str, trackbench: Call) -> None:
    arguments, parts = BAD[name]
    ended = trackbench(*arguments)
    assert_refused(ended, *parts)
    assert SECRET not in ended.err
    assert not Path("results").exists()  # nothing is left of a run that never began


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_duration_is_a_number_of_seconds(value: str) -> None:
    run = cli.cli.commands["run"]
    with pytest.raises((click.BadParameter, BadInput)):
        run.make_context("run", ["quick", "--duration", value])


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_report_on_a_truncated_file_is_one_line(share: float, trackbench: Call, tmp_path: Path) -> None:
    path = a_result().write(tmp_path)
    text = path.read_bytes()
    path.write_bytes(text[: int(len(text) * share)])
    assert_refused(trackbench("report", str(tmp_path)), "results.json", "run the scenario again")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["results.json"]


def test_a_bad_scenario_file_is_one_line(trackbench: Call, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('title = "t"\ncandidates = 3\n', encoding="utf-8")
    assert_refused(trackbench("run", str(path)), "mine.toml")
    assert not (tmp_path / "results").exists()


def test_a_place_that_cannot_be_written_to_is_one_line(trackbench: Call, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    ended = trackbench("run", "quick", "--store", "sqlite", "--out", str(tmp_path / "file"))
    assert_refused(ended, "--out")


def test_without_a_command_the_help_is_shown_as_it_is(trackbench: Call) -> None:
    ended = trackbench()
    text = ended.out + ended.err
    assert "Commands:" in text
    assert not text.startswith("trackbench: Usage")
    assert ended.code in (0, 2)


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["run", "--help"], ["--version"]])
def test_help_is_no_error(arguments: list[str], trackbench: Call) -> None:
    ended = trackbench(*arguments)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (BadInput("mend it"), 2),
        (click.UsageError("mend it"), 2),
        (click.FileError("f", "mend it"), 2),
        (signals.Interrupted(ExitCode.INTERRUPTED), 130),
        (signals.Interrupted(ExitCode.TERMINATED), 143),
        (click.Abort(), 130),
        (KeyboardInterrupt(), 130),
        *[(SystemExit(n), n) for n in (0, 1, 3, 4)],
    ],
)
def test_every_way_to_end_has_its_code(
    raised: BaseException, code: int, trackbench: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise raised

    monkeypatch.setattr(cli.cli, "main", fail)
    ended = trackbench()
    assert ended.code == code
    assert len(ended.err.splitlines()) <= 1
    assert ended.out == ""


def test_it_is_so_in_a_process_of_its_own(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.cli", "run", "no-such"]
    root = Path(cli.__file__).parent.parent
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(root), "PATH": ""}, capture_output=True, text=True, check=False
    )
    assert_refused(Ended(done.returncode, done.stdout, done.stderr), "'no-such'")


passwords = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["mysql://", "--store=postgresql=postgresql://", "mysql=mysql+pymysql://"]), passwords, passwords
)
def test_passwords_are_hidden_whatever_is_in_them(head: str, before: str, after: str) -> None:
    shown = hide_password(f"{head}user:{before}{SECRET}{after}@host:5432/db")
    assert SECRET not in shown
    doubtful = "?" in before + after  # it may begin a query, whose passwords may have an @ in them too
    assert shown == (f"{head}…" if doubtful else f"{head}user:***@host:5432/db")


@pytest.mark.parametrize(
    "text", ["quick", "--rounds", "sqlite:///a.db", "postgresql://user@h/d", "a:b@c", "://", "", "@"]
)
def test_what_holds_no_password_is_left_alone(text: str) -> None:
    assert hide_password(text) == text


@pytest.mark.parametrize("place", ["h/d", "h:5432/d", "/d", "u:pw@h/d"])
def test_passwords_in_a_query_are_hidden_whatever_is_in_them(place: str) -> None:
    for query in (f"password={SECRET}", f"user=u&password=p@{SECRET}", f"user=u@x&password={SECRET}@y&z=1"):
        shown = hide_password(f"--track=postgresql://{place}?{query}")
        assert SECRET not in shown
        assert "pw" not in shown


def test_two_urls_in_one_word_are_both_hidden() -> None:
    assert SECRET not in hide_password(f"mysql://u:{SECRET}@h/d,mysql://u:{SECRET}@h/e")


def test_the_command_line_is_kept_without_its_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = ["/usr/bin/trackbench", "run", "quick", "--store", f"mysql=mysql://u:{SECRET}@h/d", "--out", "a b"]
    monkeypatch.setattr(sys, "argv", typed)
    assert command_line() == "trackbench run quick --store 'mysql=mysql://u:***@h/d' --out 'a b'"
