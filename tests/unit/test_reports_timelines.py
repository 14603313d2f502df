"""The plots of faults: what is drawn, on which scales, what replaces it, and that they stay small and fast."""

import re
import time
from xml.etree import ElementTree as ET

import pytest
from fixtures_results import HOSTILE
from fixtures_results_damaged import EVERY_FAULTED
from fixtures_results_faults import faulted, of
from hypothesis import given
from hypothesis import strategies as st

from bench.fault_cell import FaultSeen, Moment
from reports import evidence, svg, timelines
from reports.summary import candidates_in_order
from reports.svg import ALARM, PAPER, Look
from reports.timelines import BIN_S, Panel, binned, frame

LOOK = Look(svg.SERIES[0], "o", "-")


def moments(metrics: list[int], **errors: list[int]) -> list[Moment]:
    """A quarter of a second after the other."""
    return [
        Moment(at_s=n * BIN_S, metrics=each, errors={kind: own[n] for kind, own in errors.items() if own[n]})
        for n, each in enumerate(metrics)
    ]


def seen(timeline: list[Moment], **changes: object) -> FaultSeen:
    """A fault from second 1 to second 2, after which the first operation was ok half a second later."""
    found = of(faulted(), "mysql", "server-frozen").seen[0]
    times: dict[str, object] = {"begin_s": 1.0, "end_s": 2.0, "first_ok_s": 0.5}
    return found.model_copy(update=times | {"timeline": timeline} | changes)


def drawn(own: FaultSeen, *others: FaultSeen) -> Panel:
    with svg.drawing():
        return timelines.draw(own, frame([own, *others]), LOOK, 1)


def words(panel: Panel) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)<", panel.svg)


def shapes(panel: Panel, colour: str) -> list[list[tuple[float, float]]]:
    """The corners of each filled shape of a colour."""
    paths = re.findall(rf'<path d="([^"]*)" style="fill: {re.escape(colour)}', panel.svg)
    return [[(float(x), float(y)) for x, y in re.findall(r"[ML] ([-\d.]+) ([-\d.]+)", path)] for path in paths]


STEADY = [25] * 4 + [0] * 6 + [25] * 4
ERRORS = [0] * 4 + [3, 1, 0, 0, 0, 0] + [0] * 4


def test_a_panel_shows_the_rates_the_fault_and_the_first_ok_after_it() -> None:
    panel = drawn(seen(moments(STEADY)))
    (area,) = shapes(panel, "var(--s0)")
    floor = max(y for _, y in area)
    left, right = min(x for x, _ in area), max(x for x, _ in area)
    second = (right - left) / 3.5
    zero = sorted({x for x, y in area if y == floor})
    assert [round((x - left) / second, 2) for x in zero] == [0.0, 1.0, 2.5, 3.5]
    (span,) = re.findall(r'd="([^"]*)"[^>]*style="fill: var\(--muted\); opacity: 0.16"', panel.svg)
    ends = sorted({float(x) for x in re.findall(r"[ML] ([-\d.]+) ", span)})
    assert [round((x - left) / second, 2) for x in ends] == [1.0, 2.0]
    mark = re.search(r'<use href="#f1-m[^"]*" x="([\d.]+)"', panel.svg)
    assert mark
    assert round((float(mark[1]) - left) / second, 2) == 2.5
    assert {"begin", "end", "metrics/s", "no errors"} <= set(words(panel))
    assert {"0", "50", "100", "0 s", "1 s", "2 s", "3 s"} <= set(words(panel))


def test_errors_stand_beneath_by_kind_at_their_time() -> None:
    panel = drawn(seen(moments(STEADY, connection=ERRORS, pg_40p01_deadlock=[0] * 13 + [1])))
    assert {"connection: 4", "pg 40p01 deadlock: 1"} <= set(words(panel))
    first, second = shapes(panel, "var(--fail)")
    left = min(x for x, _ in first)
    scale = (max(x for x, _ in first) - left) / 3.5
    high = [x for x, y in first if y == min(each for _, each in first)]
    assert [round((x - left) / scale, 2) for x in (min(high), max(high))] == [1.0, 1.25]
    late = [x for x, y in second if y < max(each for _, each in second)]
    assert round((min(late) - left) / scale, 2) == 3.25


def test_panels_of_one_fault_share_their_scales_and_kinds() -> None:
    slow, fast = seen(moments([5] * 8)), seen(moments([50] * 20, timeout=[2] * 20))
    shared = frame([slow, fast])
    assert (shared.seconds, shared.top, shared.kinds) == (5.0, 200.0, ("timeout",))
    alone, beside = drawn(slow), drawn(slow, fast)
    assert "timeout: none" in words(beside)
    assert "no errors" in words(alone)
    (low,) = shapes(beside, "var(--s0)")
    (high,) = shapes(drawn(fast, slow), "var(--s0)")
    assert max(x for x, _ in low) - min(x for x, _ in low) < 0.41 * (max(x for x, _ in high) - min(x for x, _ in high))
    heights = [max(y for _, y in each) - min(y for _, y in each) for each in (low, high)]
    assert heights[0] == pytest.approx(heights[1] / 10, rel=0.05)
    assert re.findall('viewBox="[^"]*"', beside.svg) == re.findall('viewBox="[^"]*"', drawn(fast, slow).svg)


def test_the_time_axis_reaches_to_the_first_ok_that_came_after_the_load() -> None:
    assert frame([seen(moments(STEADY), first_ok_s=9.0)]).seconds == 11.0
    assert frame([seen(moments(STEADY), end_s=8.0, first_ok_s=None)]).seconds == 8.0
    assert frame([]).seconds > 0


def test_of_many_kinds_of_errors_the_rare_ones_stand_together() -> None:
    counts = {"a": [9] * 4, "b": [5] * 4, "c": [2] * 4, "d": [1] * 4}
    panel = drawn(seen(moments([1] * 4, **counts)))
    assert {"a: 36", "b: 20", "other kinds: 12"} <= set(words(panel))
    assert "Errors: a 36, b 20, c 8, d 4." in panel.alternative


def test_moments_that_were_not_recorded_had_nothing() -> None:
    found = binned([Moment(at_s=1.0, metrics=10, errors={"timeout": 2}), Moment(at_s=0.0, metrics=5)])
    assert found.rates == (20.0, 0.0, 0.0, 0.0, 40.0)
    assert [sum(each.values()) for each in found.errors] == [0, 0, 0, 0, 2]
    assert binned([]).rates == ()


def test_a_last_step_that_is_not_whole_is_no_drop() -> None:
    bins = binned(moments([25] * 182))
    assert (bins.step, len(bins.rates)) == (0.75, 61)
    assert set(bins.rates) == {100.0}


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 9)), min_size=1, max_size=400))
def test_thinning_loses_no_metric_and_no_error(found: list[tuple[int, int]]) -> None:
    timeline = moments([metrics for metrics, _ in found], other=[errors for _, errors in found])
    bins = binned(timeline)
    assert len(bins.rates) <= 90
    last = len(found) * BIN_S - (len(bins.rates) - 1) * bins.step
    stored = sum(rate * bins.step for rate in bins.rates[:-1]) + bins.rates[-1] * last
    assert stored == pytest.approx(sum(metrics for metrics, _ in found))
    assert bins.total["other"] == sum(errors for _, errors in found)


def test_the_alternative_text_says_what_is_seen() -> None:
    told = drawn(seen(moments(STEADY, connection=ERRORS))).alternative
    assert told == (
        "Metrics per second: 100/s before the fault, 0/s during it, first ok 500 ms after its end, 100/s thereafter; "
        "it began at 1 s and ended at 2 s. Errors: connection 4."
    )


@pytest.mark.parametrize(
    ("changes", "said", "label"),
    [
        ({"begin_s": None, "end_s": None, "first_ok_s": None}, "the fault did not begin.", "the fault did not begin"),
        ({"end_s": None, "first_ok_s": None}, "it began at 1 s and did not end.", "no end"),
        ({"first_ok_s": None}, "no ok after its end; it began at 1 s and ended at 2 s.", "end"),
        ({"end_s": 1.0}, "it began at 1 s and ended at 1 s.", "end"),
        ({"begin_s": 0.0}, "it began at 0 ms and ended at 2 s.", "begin"),
        ({"end_s": 3.4, "first_ok_s": 0.05}, "it began at 1 s and ended at 3.4 s.", "end"),
    ],
)
def test_a_fault_that_did_not_go_as_usual_says_so(changes: dict[str, object], said: str, label: str) -> None:
    panel = drawn(seen(moments(STEADY), **changes))
    assert said in panel.alternative
    assert label in words(panel)


def test_no_label_leaves_the_panel() -> None:
    for begin in (0.0, 0.05, 0.4, 3.0, 3.45):
        panel = drawn(seen(moments(STEADY), begin_s=begin, end_s=3.48, first_ok_s=None))
        width = float(re.findall(r'viewBox="0 0 ([\d.]+)', panel.svg)[0])
        for anchor, x, text in re.findall(r'text-anchor: (\w+)[^>]*x="([\d.]+)"[^>]*>([^<]*)<', panel.svg):
            wide = 4.6 * len(text)
            low = float(x) - {"start": 0, "middle": wide / 2, "end": wide}[anchor]
            assert low >= -2
            assert low + wide <= width + 4


@pytest.mark.parametrize("name", EVERY_FAULTED)
def test_every_panel_is_small_xml_in_the_pages_own_colours(name: str) -> None:
    results = EVERY_FAULTED[name]()
    for part in evidence.parts(results, candidates_in_order(results)):
        panels = [each.panel for each in part.places if each.panel]
        assert sum(len(each.svg) for each in panels) < 40_000
        for panel in panels:
            ET.fromstring(panel.svg)
            assert not re.search(r"#[0-9a-f]{6}\b", panel.svg)
            assert "<script" not in panel.svg
            assert panel.alternative


def test_names_of_errors_are_neither_markup_nor_mathematics() -> None:
    panel = drawn(seen([Moment(at_s=0.0, metrics=1, errors={HOSTILE: 3, "$x$": 1})]))
    assert "<script" not in panel.svg
    assert "&lt;script&gt;" in panel.svg
    assert "$x$: 1" in words(panel)


def test_a_minute_of_noise_is_thinned_to_a_small_panel() -> None:
    noisy = seen(moments([n * 37 % 101 for n in range(240)], timeout=[n % 7 for n in range(240)]))
    assert len(drawn(noisy).svg) < 14_000


def test_all_panels_of_a_run_are_drawn_in_time() -> None:
    results = faulted()
    began = time.process_time()  # the machine may be busy with other things
    found = evidence.parts(results, results.candidates)
    assert time.process_time() - began < 10
    assert sum(each.panel is not None for part in found for each in part.places) == 69


def test_colours_that_no_reader_sees_are_all_replaced() -> None:
    for sentinel in (ALARM, PAPER, LOOK.colour):
        assert sentinel not in drawn(seen(moments(STEADY, connection=ERRORS))).svg
