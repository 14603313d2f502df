"""The past of a scenario on a terminal and as a page: what changed is said, and nothing is taken from elsewhere."""

import io
import random
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.history.past import Kept, PastRun
from bench.history.series import History
from bench.history.series import history as history_of
from reports import history as words
from reports import history_page

START = datetime(2026, 3, 1, 3, 30, tzinfo=UTC)
CELL = "postgresql/http/log_metric/20"


def runs(count: int = 24, at: int = 14, **changes: Any) -> list[PastRun]:
    """Nightly runs whose p99 becomes a third longer at run ``at``."""
    rng = random.Random(count)
    found = []
    for number in range(count):
        p99 = 40 * rng.gauss(1, 0.03) * (1.32 if number >= at else 1)
        made: dict[str, Any] = {
            "id": f"run {number}",
            "started": START + timedelta(days=number),
            "revision": f"1a2b3c4{number:05x}",
            "verdict": ("pass", "fail", "inconclusive")[number % 3],
            "exit_code": "0",
            "machine": "two cores",
            "metrics": {
                f"{CELL}/p99_ms": p99,
                f"{CELL}/metrics_per_s": 100 * rng.gauss(1, 0.03),
                "mysql/direct/mixed/5/80pct/p99_ms": 500 * rng.gauss(1, 0.03),
                f"{CELL}/lock_errors": 0.0,
            },
            "params": {"condition/mlflow": "3.17" if number < at else "3.18"},
        }
        found.append(PastRun(**made | changes))
    return found


def past(found: list[PastRun] | None = None, *figures: str) -> History:
    some = runs() if found is None else found
    return history_of("quick", "sqlite:////srv/past.db", some, figures or ("metrics_per_s", "p99_ms"))


def printed(history: History, width: int = 140, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    words.render(history, Console(file=file, width=width, force_terminal=False))
    file.flush()
    return raw.getvalue().decode(encoding)


def test_the_terminal_says_each_change_in_one_line() -> None:
    out = printed(past())
    assert re.search(
        r"^worse  p99_ms postgresql http log_metric 20: x1\.3\d at 1a2b3c400 \(2026-03-15\), p = 0\.0005$", out, re.M
    )
    assert "new at 1a2b3c400: mlflow 3.17 → 3.18" in out
    assert "1 change (1 worse) in 3 series; by chance alone at most 0.03 would be expected." in out


def test_the_terminal_lists_runs_and_courses() -> None:
    out = printed(past())
    assert out.splitlines()[1].startswith("quick  24 runs, 2026-03-01 to 2026-03-24, sqlite:////srv/past.db")
    assert "2026-03-24 03:30" in out
    assert "16 earlier runs: see the page." in out
    assert "p99_ms of http log_metric, 20 at once" in out
    (course,) = (
        line for line in out.splitlines() if line.startswith("postgresql http log_metric 20") and "p99" in line
    )
    bars = course.split()[-1]
    assert len(bars) == 24
    assert max(bars[:14]) < min(bars[14:])
    assert "mysql direct mixed 5 80 %" in out


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert max(map(len, printed(past(), width).splitlines())) <= width


def test_a_terminal_without_unicode_gets_letters_it_has() -> None:
    out = printed(past(), encoding="ascii")
    assert "x1.3" in out
    assert "?????" not in out


def test_too_few_runs_are_said_to_be_too_few() -> None:
    few = past(runs(5))
    assert "it takes 11 runs of one machine" in printed(few)
    assert "5 runs: changes are looked for from 11 on." in history_page.render(few)


def test_one_run_is_shown_too() -> None:
    one = past(runs(1))
    assert "1 run, 2026-03-01" in printed(one)
    assert "<svg" in history_page.render(one)


def test_unlike_machines_are_told_apart() -> None:
    both = sorted([*runs(12, 99), *runs(12, 99, machine="other")], key=lambda each: each.started)
    found = past(both)
    for text in (printed(found), history_page.render(found)):
        assert "Machine 1" in text
        assert "Machine 2" in text
        assert "Runs of unlike machines are not compared" in text


class _Page(HTMLParser):
    """What a page fetches, and its ids."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        self.fetched += [value for name in ("src", "action", "data") if (value := found.get(name))]
        if tag == "link":
            self.fetched.append(found.get("href") or "")
        if tag == "a":
            self.links.append(found.get("href") or "")
        if found.get("id"):
            self.ids.append(str(found["id"]))


def test_the_page_needs_nothing_from_elsewhere_and_its_links_lead_somewhere() -> None:
    text = history_page.render(past())
    page = _Page()
    page.feed(text)
    assert page.fetched == []
    assert "script" not in page.tags
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert len(page.ids) == len(set(page.ids))
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert page.tags.count("svg") == 3


def test_the_page_marks_the_change_in_chart_and_table() -> None:
    text = history_page.render(past())
    assert re.search(r"×1\.3\d 1a2b3c400</text>", text)
    assert "since 2026-03-15, 1a2b3c400" in text
    assert "new there: mlflow 3.17 → 3.18" in text
    assert re.search(r'aria-label="24 runs from \d\S* ms to \d\S* ms, the latest \S+ ms; changed: ×1\.3', text)
    assert "p at most 0.01" in text


def test_a_count_is_drawn_and_said_not_to_be_searched() -> None:
    text = history_page.render(past(None, "lock_errors"))
    assert "some value is 0, and has no ratio" in text


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    nasty = '<script>alert("x")</script>\x1b[31m\x00'
    key = "<b>/http/<i>/20/p99_ms"
    found = runs(12, 6, revision=nasty, verdict=nasty, machine=nasty, id=nasty)
    found = [
        PastRun(
            **{**vars(run), "metrics": {key: run.metrics[f"{CELL}/p99_ms"]}, "params": {f"condition/{nasty}": str(n)}}
        )
        for n, run in enumerate(found)
    ]
    history = history_of(nasty, nasty, found, ("p99_ms",))
    text = history_page.write(history, tmp_path / "a" / "page.html").read_text(encoding="utf-8")
    page = _Page()
    page.feed(text)
    assert not {"script", "b>"} & set(page.tags)
    assert "\x1b" not in text + printed(history)
    assert "\x00" not in text
    assert [each.name for each in (tmp_path / "a").iterdir()] == ["page.html"]


def test_the_same_runs_give_the_same_page() -> None:
    assert history_page.render(past()) == history_page.render(past())


@pytest.mark.parametrize(
    ("values", "bars"),
    [([1.0, 2.0], "▁█"), ([1.0, 1.0], "▄▄"), ([100.0, 101.0], "▄▄"), ([0.0, 0.0], "▄▄"), ([3.0, 1.0, 2.0], "█▁▅")],
)
def test_a_course_in_bars(values: list[float], bars: str) -> None:
    assert words.spark(values) == bars


def test_scenarios_are_listed() -> None:
    file = io.StringIO()
    console = Console(file=file, width=80)
    words.render_scenarios([Kept("quick", 3, START), Kept("ci", 0, None)], "here", console)
    words.render_scenarios([], "there", console)
    out = file.getvalue()
    assert re.search(r"quick +3 +2026-03-01 03:30", out)
    assert "there: nothing was tracked there" in out
