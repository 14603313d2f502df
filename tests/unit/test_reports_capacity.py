"""Capacity in words, and the plot of latency against the offered rate."""

import re
from xml.etree import ElementTree as ET

from fixtures_results import realistic
from fixtures_results_open import capacities, opened_run, tail_at

from bench.results import Capacity
from reports import capacity, knees


def a_capacity(**changes: object) -> Capacity:
    return capacities()[1].model_copy(update=changes)


def test_a_capacity_that_nothing_held_or_nothing_broke_says_so() -> None:
    assert capacity.held(a_capacity(holds=None)) == "at no rate that was tried"
    assert capacity.held(a_capacity(breaks=None)) == "up to 151/s, the highest tried"
    assert capacity.held(a_capacity(holds=None, breaks=None)) == "not known"
    assert capacity.beyond(a_capacity(breaks=None, maximum=None)) == ""
    assert capacity.line(a_capacity(holds=None, holds_load=None)).holds == "none"


def test_an_objective_reads_like_a_limit_and_whatever_it_is_it_is_shown() -> None:
    assert capacity.objective_of(a_capacity(objective="read.p95_ms < 1000")) == "read p95 < 1 s"
    assert capacity.objective_of(a_capacity(objective="success_rate >= 0.99")) == "success_rate ≥ 0.99"
    assert capacity.limit_of(a_capacity(objective="success_rate >= 0.99")) is None
    assert capacity.limit_of(a_capacity(objective="p99_ms <= nothing")) is None


def test_the_capacity_plot_has_every_load_of_its_place_and_no_closed_loop() -> None:
    plot = knees.draw(opened_run(), capacities(), 1)
    assert plot is not None
    ET.fromstring(plot.svg)
    assert not re.search(r"#[0-9a-f]{6}\b", plot.svg)
    assert plot.title == "log_metric, 20 users, http: p99 against the offered rate"
    assert f"postgresql {tail_at('postgresql', 0.2):.1f} ms at 33.6/s, " in plot.alternative
    assert "185/s, holds up to 151/s" in plot.alternative
    assert "237 ms" not in plot.alternative  # the service time of the closed loop
    assert "250 ms" in plot.svg
    assert plot.svg.count("var(--paper)") >= 4  # the hollow points of overload


def test_the_capacity_plot_names_what_it_leaves_out_and_draws_nothing_of_nothing() -> None:
    results = opened_run()
    cells = [
        each.model_copy(
            update={
                "latency_ms": each.latency_ms.model_copy(
                    update={"response": each.latency_ms.response.model_copy(update={"p99": None})}
                )
            }
        )
        if each.load == "20 %" and each.store == "mysql"
        else each
        for each in results.cells
    ]
    plot = knees.draw(results.model_copy(update={"cells": cells}), capacities(), 1)
    assert plot is not None
    assert plot.caption.endswith("Left out, n too small: mysql 20 %.")
    assert knees.draw(realistic(), capacities(), 1) is None


def test_stores_far_apart_share_a_log_axis() -> None:
    results = opened_run()
    cells = [
        each.model_copy(update={"schedule": each.schedule.model_copy(update={"rate": each.schedule.rate * 40})})
        if each.schedule and each.store == "postgresql"
        else each
        for each in results.cells
    ]
    plot = knees.draw(results.model_copy(update={"cells": cells}), capacities(), 1)
    assert plot is not None
    assert ">5k<" in plot.svg
