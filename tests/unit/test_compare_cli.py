"""`trackbench compare`: every outcome with its exit code, and what can't be compared in one line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from called import Call, Ended, caller
from made import a_cell, a_result
from rich.cells import cell_len

from bench.baseline import load_baseline
from bench.errors import BadInput
from bench.results import Regression, Results

CONDITIONS = {"processor": "A", "mysql: setting sync_binlog": "1", "direct log_metric at 20: duration": "2 s"}
HOSTILE = "<script>alert('x')</script>|`$x^2$`\x1b[31m\nrm"


@pytest.fixture
def trackbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    return caller(monkeypatch, capsys)


def a_run(name: str, *figures: tuple[float, float], day: int = 1, **changes: object) -> Results:
    """A run whose cells, at 1, 2, … writers, have a rate around the first number, with noise as the second says."""
    random = np.random.default_rng(day)
    cells = [
        a_cell(
            concurrency=level,
            rounds=10,
            per_round={"metrics_per_s": (middle * np.exp(random.normal(0, noise, 10))).tolist()},
        )
        for level, (middle, noise) in enumerate(figures or [(100.0, 0.01)], start=1)
    ]
    made = a_result(cells=cells, conditions=CONDITIONS)
    run = made.run.model_copy(update={"id": name, "started": f"2025-01-{day:02}T00:00:00+00:00"})
    return made.model_copy(update={"run": run} | changes)


@pytest.fixture
def keep(tmp_path: Path) -> Callable[[Results], str]:
    """Writes a run's folder and gives its name, relative to where the command runs."""

    def write(run: Results) -> str:
        (tmp_path / run.run.id).mkdir()
        run.write(tmp_path / run.run.id)
        return run.run.id

    return write


Keep = Callable[[Results], str]


@pytest.fixture
def base(keep: Keep) -> str:
    return keep(a_run("base", (100.0, 0.01), (100.0, 0.01)))


OUTCOMES = {
    "same": ([(100.0, 0.01), (100.5, 0.01)], {}, 0, "= same"),
    "better": ([(100.0, 0.01), (140.0, 0.01)], {}, 0, "✓ better"),
    "worse": ([(100.0, 0.01), (70.0, 0.01)], {}, 1, "✗ worse"),
    "unknown": ([(100.0, 0.01), (100.0, 0.5)], {}, 3, "? unknown"),
    "worse and unknown": ([(70.0, 0.01), (100.0, 0.5)], {}, 1, "✗ worse"),
    "better and worse": ([(70.0, 0.01), (140.0, 0.01)], {}, 1, "✗ worse"),
    "better and unknown": ([(140.0, 0.01), (100.0, 0.5)], {}, 3, "? unknown"),
    "data lost": ([(100.0, 0.01), (100.5, 0.01)], {"exit_code": 4, "verdict": "fail"}, 4, "= same"),
    "data lost, and worse": ([(70.0, 0.01), (100.0, 0.01)], {"exit_code": 4, "verdict": "fail"}, 4, "✗ worse"),
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_each_outcome_has_its_exit_code(name: str, trackbench: Call, keep: Keep, base: str, tmp_path: Path) -> None:
    figures, changes, code, word = OUTCOMES[name]
    candidate = keep(a_run("candidate", *figures, day=2, **changes))
    ended = trackbench("compare", base, candidate)
    assert (ended.code, ended.err) == (code, "")
    assert word in ended.out.splitlines()[2]
    assert "log_metric at 2" in ended.out
    assert max(map(cell_len, ended.out.splitlines())) <= 80
    assert ended.out.splitlines()[-1] == "report: candidate/compare.html"
    names = {path.name for path in (tmp_path / "candidate").iterdir()}
    assert names == {"results.json", "compare.html", "compare.md"}
    assert word in (tmp_path / "candidate" / "compare.md").read_text(encoding="utf-8")
    assert ("lost, changed or duplicated data" in " ".join(ended.out.split())) is (code == 4)
    assert {path.name for path in (tmp_path / "base").iterdir()} == {"results.json"}


def test_the_margin_decides_what_counts_as_the_same(trackbench: Call, keep: Keep, base: str) -> None:
    candidate = keep(a_run("candidate", (90.0, 0.01), (90.0, 0.01), day=2))
    assert [trackbench("compare", base, candidate, "--margin", text).code for text in ("5%", "0.05", "20 %")] == [
        1,
        1,
        0,
    ]


def test_json_is_the_comparison_and_nothing_else(trackbench: Call, keep: Keep, base: str) -> None:
    candidate = keep(a_run("candidate", (70.0, 0.01), day=2))
    ended = trackbench("compare", base, candidate, "--json", "--margin", "10%")
    assert (ended.code, ended.err) == (1, "")
    found = Regression.model_validate_json(ended.out)
    assert (found.base, found.candidate, found.margin) == ("base", "candidate", 0.1)
    assert [one.outcome for one in found.comparisons] == ["worse"]
    assert len(found.missing) == 1


def test_reports_go_where_they_are_told_to(trackbench: Call, keep: Keep, base: str, tmp_path: Path) -> None:
    candidate = keep(a_run("candidate", day=2))
    ended = trackbench("compare", f"{base}/results.json", f"{candidate}/results.json", "--out", "a/b")
    assert ended.out.splitlines()[-1] == "report: a/b/compare.html"
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} == {"compare.html", "compare.md"}
    assert {path.name for path in (tmp_path / candidate).iterdir()} == {"results.json"}


def assert_refused(ended: Ended, *parts: str) -> None:
    assert (ended.code, ended.out) == (2, "")
    (line,) = ended.err.splitlines()
    assert line.startswith("trackbench: ")
    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    ("margin", "part"), [("x", "write 5%"), ("", "write 5%"), ("0", "above 0"), ("5", "below 100%"), ("nan", "above 0")]
)
def test_a_margin_is_a_share(margin: str, part: str, trackbench: Call, base: str) -> None:
    assert_refused(trackbench("compare", base, base, f"--margin={margin}"), "--margin", part)


def test_two_runs_are_wanted(trackbench: Call, base: str) -> None:
    assert_refused(trackbench("compare"), "BASE")
    assert_refused(trackbench("compare", base), "CANDIDATE")
    assert_refused(trackbench("compare", base, base), "the same run", "name two")
    shutil.copytree(base, "copy")
    assert_refused(trackbench("compare", base, "copy"), "the same run")


def test_what_is_no_run_is_refused(trackbench: Call, keep: Keep, base: str, tmp_path: Path) -> None:
    broken, older = (keep(a_run(name, day=2)) for name in ("broken", "older"))
    text = (tmp_path / broken / "results.json").read_text(encoding="utf-8")
    (tmp_path / broken / "results.json").write_text(text[:200], encoding="utf-8")
    raw = json.loads(text) | {"schema_version": 0}
    (tmp_path / older / "results.json").write_text(json.dumps(raw), encoding="utf-8")
    (tmp_path / "empty").mkdir()
    for name, part in (
        ("nowhere", "name a run's folder"),
        ("empty", "name a run's folder"),
        (broken, "not a Trackbench results.json"),
        (older, "schema version 0"),
    ):
        assert_refused(trackbench("compare", base, name), name, part)
        assert_refused(trackbench("compare", name, base), name, part)


def test_a_run_that_measured_nothing_is_refused(trackbench: Call, keep: Keep, base: str) -> None:
    stopped = a_run("stopped", day=2, cells=[])
    stopped = stopped.model_copy(update={"run": stopped.run.model_copy(update={"interrupted": True})})
    assert_refused(trackbench("compare", base, keep(stopped)), "stopped", "interrupted before its first trial ended")
    lost = a_run("lost", day=3, cells=[a_cell(rounds=0, rounds_lost=4, per_round={})])
    assert_refused(trackbench("compare", keep(lost), base), "lost", "measured nothing")


def test_an_interrupted_run_is_compared_as_far_as_it_went(trackbench: Call, keep: Keep, base: str) -> None:
    stopped = a_run("stopped", day=2)
    changes = {"interrupted": True, "trials_done": 3, "trials_planned": 20}
    keep(stopped.model_copy(update={"run": stopped.run.model_copy(update=changes)}))
    ended = trackbench("compare", base, "stopped")
    assert ended.code == 3  # what is not there is not known
    assert "The candidate run was interrupted after 3 of 20 trials." in ended.out
    assert "Not compared:" in ended.out


def test_runs_without_a_cell_in_common_are_refused(trackbench: Call, keep: Keep, base: str) -> None:
    other = keep(a_run("other", day=2, cells=[a_cell(workload="mixed")]))
    assert_refused(trackbench("compare", base, other), "no figure in common", "no cell is in both")
    short = [keep(a_run(f"short{day}", day=day, cells=[a_cell(load="9/s", per_round={})])) for day in (3, 4)]
    assert_refused(trackbench("compare", *short), "no figure in common", "too few operations")


def test_unlike_runs_are_refused_unless_told(trackbench: Call, keep: Keep, base: str, tmp_path: Path) -> None:
    unlike = keep(a_run("unlike", day=2, conditions=CONDITIONS | {"processor": "B", "mysql: setting sync_binlog": "0"}))
    assert_refused(trackbench("compare", base, unlike), "processor", "'A'", "'B'", "sync_binlog", "--anyway")
    assert [path.name for path in (tmp_path / unlike).iterdir()] == ["results.json"]
    ended = trackbench("compare", base, unlike, "--anyway")
    assert ended.code == 0
    assert "! unlike: processor: A in the base, B in the candidate" in ended.out
    page = (tmp_path / unlike / "compare.html").read_text(encoding="utf-8")
    assert "The runs are not alike: 2 conditions differ." in page


def test_a_run_that_does_not_say_its_conditions_is_refused(trackbench: Call, keep: Keep, base: str) -> None:
    old = keep(a_run("old", day=2, conditions={}))
    for pair in ((base, old), (old, base)):
        assert_refused(trackbench("compare", *pair), "old: does not say", "--anyway")
    assert trackbench("compare", base, old, "--anyway").code == 0


@pytest.mark.parametrize("blocked", ["a file stands there", "the page is a folder"])
def test_reports_that_can_not_be_written_are_one_line(
    blocked: str, trackbench: Call, keep: Keep, base: str, tmp_path: Path
) -> None:
    candidate = keep(a_run("candidate", day=2))
    if blocked == "a file stands there":
        (tmp_path / "file").write_text("", encoding="utf-8")
        assert_refused(trackbench("compare", base, candidate, "--out", "file/x"), "file/x", "--out")
        return
    (tmp_path / candidate / "compare.md").mkdir()
    assert_refused(trackbench("compare", base, candidate), "candidate: ", "--out")
    assert not list((tmp_path / candidate).glob(".*"))


def test_names_can_not_break_out(trackbench: Call, keep: Keep, tmp_path: Path) -> None:
    def named(name: str, day: int, rate: float) -> str:
        run = a_run(name, (rate, 0.01), day=day, environment={"git revision": HOSTILE}, conditions={HOSTILE: str(day)})
        cells = [one.model_copy(update={"candidate": HOSTILE, "workload": HOSTILE}) for one in run.cells]
        run_facts = run.run.model_copy(update={"title": HOSTILE, "command": HOSTILE})
        return keep(run.model_copy(update={"cells": cells, "run": run_facts}))

    pair = named("one", 1, 100.0), named("two", 2, 50.0)
    assert_refused(trackbench("compare", *pair), "not measured alike")
    ended = trackbench("compare", *pair, "--anyway")
    assert ended.code == 1
    assert "\x1b" not in ended.out
    page = (tmp_path / "two" / "compare.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "\x1b" not in page
    text = (tmp_path / "two" / "compare.md").read_text(encoding="utf-8")
    assert "<script" not in text
    assert "`" not in text.replace("\\`", "")
    (row,) = [line for line in text.splitlines() if line.startswith("| ✗")]
    assert row.replace("\\|", "").count("|") == 8


def test_a_baseline_is_found_from_the_working_directory(
    keep: Keep, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_baseline(base).run.id == load_baseline(f"{base}/results.json").run.id == "base"
    for path, part in (("nowhere", "name a run's folder"), (keep(a_run("nothing", cells=[])), "measured nothing")):
        with pytest.raises(BadInput, match=f"^baseline = '{path}': .*{part}") as refused:
            load_baseline(path)
        assert "\n" not in str(refused.value)
