"""Runs drawn at random, of which the truth is known, for the functions that ship. A run is an array of log values."""

from collections.abc import Iterator

import numpy as np
from made import a_cell, a_result
from numpy.random import Generator as Random

from bench.cell import Cell
from bench.identity import F64
from bench.results import Machine, Results

NOISE = 0.05  # standard deviation of the log of one trial's figure
CELL, RESULT = a_cell(), a_result()
DRIFT = 0.10  # of the machine, from the first to the last trial of ten rounds


def abba(rng: Random, runs: int, rounds: int, cells: int, noise: float = NOISE, drift: float = DRIFT) -> F64:
    """Log values of equal cells, shaped (runs, cells, rounds), measured in turn while the machine drifts.

    Each round takes every cell once, odd rounds in the reverse order, as `bench.plan` does. ``drift`` is that of ten
    rounds; longer runs go on drifting.
    """
    place = np.arange(rounds * cells).reshape(rounds, cells)
    place[1::2] = place[1::2, ::-1]
    shift = np.log1p(drift) * place / (10 * cells)
    return np.asarray(rng.normal(0, noise, (runs, cells, rounds)) + shift.T)


def slow(rng: Random, runs: int, rounds: int, noise: float = NOISE, memory: float = 0.5) -> F64:
    """Log values of a machine whose speed changes slowly (AR(1) with that ``memory``), shaped (runs, rounds)."""
    fresh = rng.normal(0, noise, (runs, rounds))
    found = fresh.copy()
    for n in range(1, rounds):
        found[:, n] = memory * found[:, n - 1] + np.sqrt(1 - memory**2) * fresh[:, n]
    return found


def cells_of(logs: F64, field: str, scale: float = 100.0) -> list[Cell]:
    """Cells with these rounds of one figure, shaped (cells, rounds); the first is the reference."""
    names = ["sqlite", *(f"store{n}" for n in range(1, len(logs)))]
    return [
        CELL.model_copy(update={"candidate": name, "reference": name == "sqlite", "per_round": {field: values}})
        for name, values in zip(names, (scale * np.exp(logs)).tolist(), strict=True)
    ]


def each(logs: F64, field: str) -> Iterator[list[Cell]]:
    """`cells_of` each run."""
    for run in logs:
        yield cells_of(run, field)


def a_run(rng: Random, rounds: int, factor: float = 1.0, slowed: str = "", memory: float = 0.5) -> Results:
    """A run of three stores and two workloads on a machine that is ``factor`` slower than another time.

    The machine's speed changes slowly within the run (5 %), each trial has noise of its own (5 %), and the machine's
    control measurements see the first with noise of 3 %. The store ``slowed`` is 30 % slower in everything.
    """
    machine = slow(rng, 1, rounds, memory=memory)[0] + np.log(factor)
    cells = []
    for workload in ("log_metric", "train"):
        for name in ("sqlite", "mysql", "postgresql"):
            own = np.log(1.3) if name == slowed else 0.0
            rate, tail = (machine + own + rng.normal(0, NOISE, rounds) for _ in range(2))
            values = {"metrics_per_s": (1e3 * np.exp(-rate)).tolist(), "p99_ms": (5 * np.exp(tail)).tolist()}
            place = {"candidate": name, "reference": name == "sqlite", "workload": workload}
            cells.append(CELL.model_copy(update={**place, "per_round": values}))
    spin, sync = (np.exp(machine + rng.normal(0, 0.03, rounds)).tolist() for _ in range(2))
    return RESULT.model_copy(update={"cells": cells, "machine": Machine(spin_ms=spin, sync_ms=sync)})
