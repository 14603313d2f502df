"""Numbers as people read them."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import figures

POSITIVE = st.floats(min_value=1e-6, max_value=1e12)
NUMBER = re.compile(r"-?[\d.]+")
SIZES = {"µs": 1e-3, "ms": 1.0, "s": 1e3}
PREFIXES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "∞"),
        (0.0, "0 ms"),
        (0.4561, "456 µs"),
        (1.2345, "1.23 ms"),
        (456.4, "456 ms"),
        (999.6, "1 s"),
        (1400.0, "1.4 s"),
        (0.9996, "1 ms"),
        (123456.0, "123 s"),
    ],
)
def test_a_duration_has_three_digits_and_the_nearest_unit(value: float | None, text: str) -> None:
    assert figures.duration(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0/s"), (102.2, "102/s"), (999.7, "1 k/s"), (12345.0, "12.3 k/s"), (2.5e6, "2.5 M/s")],
)
def test_a_rate_carries_its_prefix(value: float | None, text: str) -> None:
    assert figures.rate(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (1.0, "100 %"), (0.0, "0 %"), (0.99997, "99.997 %"), (0.999, "99.9 %"), (0.41, "41 %")],
)
def test_a_share_is_a_percentage(value: float | None, text: str) -> None:
    assert figures.share(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1.0, "0 s"), (42.4, "42 s"), (60.0, "1 min"), (725.0, "12 min 5 s"), (3600.0, "1 h"), (7380.0, "2 h 3 min")],
)
def test_a_span_reads_like_a_clock(seconds: float, text: str) -> None:
    assert figures.span(seconds) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1240.0, "ms", "1.24 s"),
        (1.24, "s", "1.24 s"),
        (0.99997, "share", "99.997 %"),
        (18.57, "×", "18.6 ×"),
        (3120.0, "metrics/s", "3.12 k metrics/s"),
        (3120.0, "/s", "3.12 k/s"),
        (3.0, "rows", "3 rows"),
        (1234567.0, "", "1,234,567"),
        (0.25, "", "0.25"),
        (None, "ms", "–"),
        (math.nan, "rows", "–"),
    ],
)
def test_a_quantity_follows_its_unit(value: float | None, unit: str, text: str) -> None:
    assert figures.quantity(value, unit) == text


@given(POSITIVE)
def test_a_duration_is_within_half_a_percent_and_never_longer_than_its_evidence(ms: float) -> None:
    number, unit = figures.duration(ms).split()
    assert float(number) * SIZES[unit] == pytest.approx(ms, rel=0.0051)
    assert len(number.replace(".", "").strip("0")) <= 3


@given(POSITIVE)
def test_a_rate_is_within_half_a_percent(value: float) -> None:
    found = re.fullmatch(r"([\d.]+) ?([kMG]?)/s", figures.rate(value))
    assert found
    assert float(found[1]) * PREFIXES[found[2]] == pytest.approx(value, rel=0.0051)


@given(st.floats(min_value=-1e15, max_value=1e15))
def test_significant_digits_never_use_an_exponent_for_usual_sizes(value: float) -> None:
    text = figures.significant(value)
    assert float(text) == pytest.approx(value, rel=0.0051, abs=1e-300)
    if value == 0 or 1e-9 <= abs(figures.rounded(value)) < 1e15:
        assert NUMBER.fullmatch(text)


@given(st.floats(min_value=0, max_value=1))
def test_a_share_short_of_everything_is_never_called_everything(value: float) -> None:
    text = figures.share(value)
    if value < 1 - 1e-9:
        assert text != "100 %"
    if value > 0:
        assert text != "0 %"


@given(st.floats())
def test_no_float_breaks_any_format(value: float) -> None:
    for render in (figures.duration, figures.rate, figures.share, figures.count, figures.significant):
        assert render(value)
    for unit in ("ms", "s", "share", "x", "rows", "metrics/s", ""):
        assert figures.quantity(value, unit)


@given(st.text())
def test_printable_text_is_what_xml_and_terminals_take(text: str) -> None:
    clean = figures.printable(text)
    assert len(clean) == len(text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", clean)
    assert "\n" not in figures.one_line(text)


def test_intervals_name_both_ends() -> None:
    assert figures.interval((19.9, 23.1), "ms") == "19.9 ms to 23.1 ms"
    assert figures.interval(None, "ms") == ""
