"""Plots: what is drawn, what replaces it for those who cannot see it, and that it stays fast."""

import re
import time
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from fixtures_results import realistic
from fixtures_results_bad import EVERY, empty, hostile, reads_only, unmeasured
from hypothesis import given
from hypothesis import strategies as st

from bench.cell import TimelinePoint
from reports import html, plots, svg


def test_one_plot_a_workload_and_one_timeline_a_headline_cell() -> None:
    gallery = plots.draw(realistic())
    assert [len(gallery.speed), len(gallery.tails), len(gallery.times)] == [2, 2, 8]
    assert "timescaledb" in gallery.speed[0].svg
    assert "postgresql 1.06 k/s at 1, 2.43 k/s at 5, 3.12 k/s at 20" in gallery.speed[1].alternative
    assert "mysql p50 9.4 ms" in gallery.tails[0].alternative


@pytest.mark.parametrize("name", EVERY)
def test_every_plot_is_xml_in_the_pages_own_colours(name: str) -> None:
    gallery = plots.draw(EVERY[name]())
    for plot in (*gallery.speed, *gallery.tails, *gallery.times):
        ET.fromstring(plot.svg)
        assert not re.search(r"#[0-9a-f]{6}\b", plot.svg)
        assert "currentColor" in plot.svg or "var(--" in plot.svg
        assert plot.title
        assert plot.alternative


def test_without_data_nothing_is_drawn() -> None:
    for results in (empty(), unmeasured()):
        gallery = plots.draw(results)
        assert (gallery.speed, gallery.tails, gallery.times) == ((), (), ())


def test_percentiles_without_enough_samples_are_left_out_and_named() -> None:
    plot = plots.draw(reads_only()).tails[0]
    assert "Left out, n too small: sqlite p90 p95 p99 p99.9 (n = 40)" in plot.caption
    assert "p99" not in plot.alternative


def test_names_are_neither_markup_nor_mathematics() -> None:
    plot = plots.draw(hostile()).tails[0]
    assert "<script" not in plot.svg
    assert "&lt;script&gt;" in plot.svg


def test_a_name_without_glyphs_raises_no_warning() -> None:
    results = realistic()
    cells = [each.model_copy(update={"candidate": "数据库\U0001f40b"}) for each in results.cells[:1]]
    assert "数据库" in plots.draw(results.model_copy(update={"cells": cells})).speed[0].svg


def test_a_long_timeline_is_thinned_but_keeps_its_peaks() -> None:
    results = realistic()
    points = [
        TimelinePoint(round=0, second=second, metrics=100, lock_errors=9 if second == 5000 else 0)
        for second in range(20_000)
    ]
    one = next(each for each in results.cells if each.concurrency == 20)
    cells = [one.model_copy(update={"timeline": points, "seconds": 20_000.0})]
    plot = plots.draw(results.model_copy(update={"cells": cells})).times[0]
    assert len(plot.svg) < 60_000
    assert "20000 seconds in 1 round" in plot.alternative
    assert "9 lock errors" in plot.alternative


def test_the_broken_second_at_a_trials_end_is_no_drop() -> None:
    results = realistic()
    points = [
        TimelinePoint(round=number, second=second, metrics=metrics, lock_errors=0)
        for number in range(2)
        for second, metrics in enumerate((100, 100, 50, 1))
    ]
    one = next(each for each in results.cells if each.concurrency == 20)
    cells = [one.model_copy(update={"timeline": points, "seconds": 5.0})]
    plot = plots.draw(results.model_copy(update={"cells": cells})).times[0]
    assert "over 6 seconds in 2 rounds: 100/s to 100/s" in plot.alternative


def test_forty_cells_render_in_time() -> None:
    results = realistic()
    long = [
        TimelinePoint(round=number, second=second, metrics=1000 + second, lock_errors=0)
        for number in range(10)
        for second in range(300)
    ]
    more = [
        each.model_copy(update={"workload": f"{each.workload}{n}", "timeline": long, "seconds": 3000.0})
        for n in (1, 2)
        for each in results.cells
    ]
    results = results.model_copy(update={"cells": more[:40]})
    began = time.process_time()  # the machine may be busy with other things
    html.render(results)
    assert time.process_time() - began < 10


def test_looks_tell_candidates_apart_without_colour() -> None:
    names = [("reference", True), *((f"store {n}", False) for n in range(4))]
    found = list(svg.looks(names).values())
    assert len({each.colour for each in found}) == 5
    assert len({(each.marker, each.dashes) for each in found}) == 5


@given(st.lists(st.floats(min_value=0, max_value=1), min_size=1, max_size=8).map(sorted))
def test_labels_never_overlap(heights: list[float]) -> None:
    placed = svg.apart(heights, 0.06)
    assert all(upper - lower > 0.06 - 1e-9 for lower, upper in pairwise(placed))
    assert placed[-1] <= 1.0 + 1e-9


@pytest.mark.parametrize(("value", "text"), [(100, "100"), (1000, "1k"), (12_500, "12.5k"), (2e6, "2M"), (0.5, "0.5")])
def test_ticks_are_plain_numbers(value: float, text: str) -> None:
    assert svg.plain(value) == text


def test_long_names_are_cut_where_they_would_not_fit() -> None:
    assert svg.short("a" * 40) == "a" * 16 + "…"
    assert svg.right_margin([]) <= 1
