"""One run against another in every format: worst first, told in words, drawn beside its band, deaf to hostile names."""

import io
import math
import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import a_cell, a_result
from rich.cells import cell_len
from rich.console import Console
from test_reports_formats import Page as Parsed

from bench.cell import Percentiles, Schedule
from bench.results import Change, Comparison, Mark, Regression, Results
from reports import compared, forest, regression
from reports.page import Page

HOSTILE = "<script>alert('x')</script>|`$x^2$`\x1b[31m\nrm"
OUTCOMES: tuple[Change, ...] = ("worse", "unknown", "same", "better")


def a_comparison(outcome: Change = "same", ratio: float | None = 1.0, **changes: object) -> Comparison:
    """A throughput at 20 users; ``changes`` are not checked."""
    comparison = Comparison(
        candidate="mysql",
        driver="http",
        workload="log_metric",
        concurrency=20,
        field="metrics_per_s",
        unit="/s",
        ours=None if ratio is None else 1000 * ratio,
        theirs=1000.0,
        rounds=(10, 10),
        ratio=ratio,
        interval=None if ratio is None else (ratio * 0.97, ratio * 1.03),
        confidence=0.95,
        p=None if ratio is None else 0.5,
        outcome=outcome,
        reason="as it is",
    )
    return comparison.model_copy(update=changes)


def a_regression(*comparisons: Comparison, **changes: object) -> Regression:
    """With the outcome that they have together; ``changes`` are not checked."""
    order: tuple[Change, ...] = ("worse", "unknown", "better", "same")
    outcome = min((one.outcome for one in comparisons), key=order.index, default="unknown")
    made = Regression(
        base="base-run",
        candidate="candidate-run",
        floor=0.02,
        margin=0.05,
        comparisons=list(comparisons),
        outcome=outcome,
        reason="all of it",
    )
    return made.model_copy(update=changes)


EVERY = a_regression(
    a_comparison("better", 1.4),
    a_comparison("same", 1.0, field="p99_ms", unit="ms"),
    a_comparison("unknown", None, reason="nothing was measured"),
    a_comparison("unknown", 1.1, field="read.p95_ms", unit="ms", load="80 %"),
    a_comparison("worse", 0.7),
    a_comparison("worse", 3.0, field="p99_ms", unit="ms", driver="direct", p=0.0001),
    unlike={"processor": ("A", "B"), "mysql: setting x": ("", "1")},
    missing=["mysql other (http) at 5: only in base-run"],
)
RUN = a_result(environment={"git revision": "abc", "trackbench": "1"})
LATER = RUN.model_copy(update={"run": RUN.run.model_copy(update={"started": "2025-02-01T00:00:00+00:00"})})


def printed(found: Regression, width: int = 80, encoding: str = "utf-8", most: int = 12) -> list[str]:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, errors="strict")
    regression.terminal(found, Page(Console(file=file, width=width)), most)
    file.flush()
    return raw.getvalue().decode(encoding).splitlines()


def test_the_worst_comes_first() -> None:
    told = [(line.outcome, line.ratio, line.figure) for line in compared.lines(EVERY)]
    assert told == [
        ("worse", "3.00", "p99"),
        ("worse", "0.70", "metrics/s"),
        ("unknown", "1.10", "read p95"),
        ("unknown", "–", "metrics/s"),
        ("same", "1.00", "p99"),
        ("better", "1.40", "metrics/s"),
    ]


comparisons = st.builds(
    a_comparison,
    st.sampled_from(OUTCOMES),
    st.none() | st.sampled_from([0.0, math.inf]) | st.floats(1e-6, 1e6),
    field=st.sampled_from(["metrics_per_s", "ops_per_s", "p99_ms", "read.p95_ms"]),
    candidate=st.sampled_from(["mysql", "sqlite", HOSTILE, ""]),
    load=st.sampled_from(["closed", "80 %", "150/s"]),
    interval=st.none() | st.sampled_from([(0.0, math.inf), (1.0, 1.0), (0.5, 2.0), (1e-9, 1e9)]),
)


@settings(deadline=None)
@given(st.lists(comparisons, max_size=8))
def test_every_figure_is_told_once_in_order(found: list[Comparison]) -> None:
    ordered = compared.worst_first(found)
    assert sorted(map(id, ordered)) == sorted(map(id, found))
    for one, other in pairwise(ordered):
        assert OUTCOMES.index(one.outcome) <= OUTCOMES.index(other.outcome)
        sizes = compared.decline(one), compared.decline(other)
        if one.outcome == other.outcome and None not in sizes:
            assert sizes[0] >= sizes[1]  # type: ignore[operator]
    whole = a_regression(*found)
    assert len(compared.lines(whole)) == len(found)
    assert compared.headline(whole)
    assert max(map(cell_len, printed(whole, 60, "ascii"))) <= 60


@settings(deadline=None, max_examples=15)
@given(st.lists(comparisons, max_size=4))
def test_whatever_was_found_can_be_drawn(found: list[Comparison]) -> None:
    for plot in forest.draw(a_regression(*found)):
        ET.fromstring(plot.svg.replace("&nbsp;", " "))
        assert "nan" not in plot.svg


@pytest.mark.parametrize(
    ("value", "text"), [(0.699, "0.70"), (1.0, "1.00"), (12.34, "12.3"), (0.0012, "0.0012"), (None, "–")]
)
def test_a_ratio_has_the_digits_that_tell_it_from_one(value: float | None, text: str) -> None:
    assert compared.ratio(value) == text


HEADLINES: list[tuple[tuple[Comparison, ...], str]] = [
    (
        (a_comparison("worse", 0.7),),
        "1 of 1 figure is worse: mysql log_metric at 20, metrics/s 0.70 times the base's",
    ),
    (
        (a_comparison("worse", 0.9), a_comparison("worse", 2.0, field="p99_ms"), a_comparison()),
        "2 of 3 figures are worse, most of all mysql log_metric at 20, p99 2.00 times the base's",
    ),
    (
        (a_comparison("better", 1.2), a_comparison("better", 1.5), a_comparison()),
        "2 of 3 figures are better, most of all mysql log_metric at 20, metrics/s 1.50 times the base's; "
        "nothing is worse",
    ),
    ((a_comparison("unknown"), a_comparison()), "nothing is known to be worse; 1 of 2 figures is not decided"),
    ((a_comparison(), a_comparison()), "all 2 figures are the same"),
    ((), "nothing could be compared"),
]


@pytest.mark.parametrize(("found", "text"), HEADLINES)
def test_the_outcome_is_a_sentence(found: tuple[Comparison, ...], text: str) -> None:
    whole = a_regression(*found)
    assert compared.headline(whole) == text
    assert text in " ".join(" ".join(printed(whole)).split())
    assert text.replace("_", "\\_") in regression.markdown(whole)[0]


def test_the_page_is_well_formed_and_needs_nothing() -> None:
    page = Parsed(regression.html_page(EVERY, RUN, LATER))
    assert [one for one in page.loads if not one.startswith("#")] == []
    assert len(page.ids) == len(set(page.ids))
    assert page.tags.isdisjoint({"script", "iframe", "object"})
    for text in ("2 of 6 figures are worse", "0.68 to 0.72", "< 0.001", "nothing was measured", "not set", "abc"):
        assert text in page.text
    assert "Not compared: mysql other (http) at 5: only in base-run" in page.text


def test_a_section_is_for_the_page_of_a_run() -> None:
    section = str(regression.html(EVERY))
    page = Parsed(section)
    assert section.strip().startswith('<section id="baseline">')
    assert "Against the baseline run base-run" in page.text
    assert "✗ worse : 2 of 6 figures are worse" in page.text
    assert [one for one in page.ids if one != "baseline" and not re.match(r"f90[01]-", one)] == []
    assert Parsed(str(regression.html(a_regression()))).text.count("nothing could be compared") == 1


def test_pictures_part_rates_from_latencies_on_one_scale() -> None:
    rates, latencies = forest.draw(EVERY)
    assert (rates.title, latencies.title) == ("Throughput: right is better", "Latency: left is better")
    assert (
        rates.alternative
        == "mysql log_metric at 20 metrics/s: 0.70, worse; mysql log_metric at 20 metrics/s: 1.40, better."
    )
    assert "direct log_metric at 20 p99: 3.00, worse" in latencies.alternative
    ticks = [re.findall(r">(\d[\d.]*)</text>", plot.svg) for plot in (rates, latencies)]
    assert ticks[0] == ticks[1]
    assert "1" in ticks[0]
    assert "the light one is what the machine may explain" in rates.caption
    assert "light" not in forest.draw(EVERY.model_copy(update={"floor": 0.0}))[0].caption


def test_a_picture_shows_the_worst_and_counts_the_rest() -> None:
    (plot,) = forest.draw(a_regression(*[a_comparison(concurrency=n) for n in range(1, 101)]))
    assert plot.caption.endswith(" 60 figures more in the table.")
    assert forest.draw(a_regression(a_comparison("unknown", None))) == ()


def test_names_stay_text_everywhere() -> None:
    bad = a_comparison("worse", 0.5, candidate=HOSTILE, workload=HOSTILE, load=HOSTILE, reason=HOSTILE, field=HOSTILE)
    found = a_regression(bad, base=HOSTILE, reason=HOSTILE, missing=[HOSTILE], unlike={HOSTILE: (HOSTILE, "")})
    run = RUN.run.model_copy(update={"id": HOSTILE, "title": HOSTILE, "command": HOSTILE})
    runs = RUN.model_copy(update={"run": run}), LATER
    page = Parsed(regression.html_page(found, *runs))
    assert "script" not in page.tags
    assert "<script>alert('x')</script>|`$x^2$`\ufffd[31m rm" in page.text
    for text in (regression.markdown_page(found, *runs), "\n".join(printed(found)), regression.html_page(found, *runs)):
        assert "\x1b" not in text
    lines = regression.markdown_page(found, *runs).splitlines()
    tables = [line for line in lines if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in tables} == {8}


@pytest.mark.parametrize("width", [40, 60, 80, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_no_line_is_wider_than_the_terminal(width: int, encoding: str) -> None:
    found = printed(EVERY, width, encoding)
    assert max(map(cell_len, found)) <= width


def test_a_wide_terminal_has_a_figure_a_line() -> None:
    found = printed(EVERY, 160)
    assert [line.split()[:2] for line in found if re.match(r"[✗?=✓] \w+ +mysql", line)] == [
        [line.sign, line.outcome] for line in compared.lines(EVERY)
    ]
    assert any(re.search(r"metrics/s +1 k/s +700/s +0\.70 \(0\.68–0\.72\) +10 *$", line) for line in found)
    assert "! unlike: mysql: setting x: not set in the base, 1 in the candidate" in found
    assert "mysql log_metric at 20, metrics/s: nothing was measured" in found


def test_a_run_shows_only_the_worst() -> None:
    many = a_regression(*[a_comparison(concurrency=n) for n in range(1, 31)])
    assert any("and 18 more" in line for line in printed(many))
    assert sum(line.startswith("= same     mysql") for line in printed(many, 160)) == 12
    assert sum(line.startswith("= same     mysql") for line in printed(many, 160, most=30)) == 30


def paced(rate: float) -> Results:
    schedule = Schedule(
        arrivals="poisson", rate=rate, share=0.8, due=1, late=None, skipped=0, lag_ms=Percentiles(),
        own_lag_ms=Percentiles(),
    )  # fmt: skip
    return RUN.model_copy(update={"cells": [a_cell(load="80 %", schedule=schedule)]})


OPEN = a_regression(a_comparison(driver="direct", load="80 %", field="p99_ms"))


def test_notes_say_what_to_know_before_believing_it() -> None:
    assert compared.notes(EVERY, RUN, LATER) == ["Both runs are of one revision of Trackbench."]
    dirty = RUN.model_copy(update={"environment": {"git revision": "abc-dirty"}})
    assert compared.notes(EVERY, dirty, dirty) == []
    (later,) = compared.notes(EVERY, LATER, dirty)
    assert later.startswith("The base is the later of the two runs")
    lost = dirty.model_copy(update={"exit_code": 4, "marks": [Mark(kind="noisy", text="steal of 9 %")]})
    assert compared.notes(EVERY, lost, dirty) == [
        "The base run lost, changed or duplicated data: what it did fast, it did not do right.",
        "The base run: steal of 9 %",
    ]
    assert len(compared.notes(OPEN, paced(100.0), paced(101.0))) == 1
    assert len(compared.notes(EVERY, paced(100.0), paced(120.0))) == 1  # its latency is not compared
    (_, offered) = compared.notes(OPEN, paced(100.0), paced(120.0))
    assert "120 operations/s were offered, 100 in the base" in offered


def test_both_files_are_written_and_no_draft_stays(tmp_path: Path) -> None:
    page = regression.write(EVERY, RUN, LATER, tmp_path / "new" / "folder")
    assert page == tmp_path / "new" / "folder" / "compare.html"
    assert {path.name for path in page.parent.iterdir()} == {"compare.html", "compare.md"}
