"""The planted defects among metrics and latest_metrics."""

import numpy as np
from defects import HOUR_MS, PRIMARY_KEY, Scene, defect, metric, pair
from planted import EXPERIMENT, FAIL, HALVES, INFO, KEY, LATEST, NO_ORPHANS, all_ok, perfect

from bench import identity
from bench.outcome import Outcome

STEP, TIME, VALUE, IS_NAN = 2, 3, 4, 5


# Lost


@defect("batch", {"lost": 1})
def metric_lost(it: Scene) -> str:
    return metric(it.stored.metrics.pop(it.inner()))


@defect("log_metric", {"lost": 1})
def last_metric_of_a_writer_lost(it: Scene) -> str:
    row = it.stored.metrics.pop()
    it.stored.settle_latest()
    return metric(row)


@defect("batch", {"lost": 3})
def acknowledged_commit_half_there(it: Scene) -> str:
    """Its ledger says ok, so what is missing is lost."""
    row, *_ = it.stored.metrics[:3]
    del it.stored.metrics[:3]
    it.stored.settle_latest()
    return metric(row)


@defect("batch", {HALVES: 1, "recovered": 2, "indeterminate": 3})
def unknown_commit_half_there(it: Scene) -> str:
    """Nobody was told how it ended; but a transaction is there or not."""
    it.statuses[0][it.layout.commits_per_cycle + 1] = INFO
    del it.stored.metrics[5:8]
    it.stored.settle_latest()
    return "writer 0 commit 4"


@defect("bulk", {HALVES: 1, "recovered": 7, "indeterminate": 1})
def reserved_bulk_insert_half_there(it: Scene) -> str:
    """Its writer was killed."""
    it.statuses[1][-1] = Outcome.RESERVED
    it.stored.metrics.pop()
    it.stored.settle_latest()
    return "writer 1 commit 3"


@defect("log_metric", {"lost": 20}, cycles=60)
def tail_of_a_writer_lost(it: Scene) -> str:
    row = it.stored.metrics[-20]
    del it.stored.metrics[-20:]
    it.stored.settle_latest()
    return metric(row)


# Duplicated


@defect("batch", {"duplicated": 1})
def metric_again_with_a_fresh_timestamp(it: Scene) -> str:
    """What a retry makes: another row for MLflow's primary key, one too many for the run, the key and the step."""
    row = it.stored.metrics[it.inner()]
    it.stored.metrics.append((*row[:TIME], row[TIME] + 1, *row[VALUE:]))
    it.stored.settle_latest()
    return metric(row)


@defect("batch", {"duplicated": 1}, forbidden=PRIMARY_KEY)
def metric_twice(it: Scene) -> str:
    row = it.stored.metrics[it.inner()]
    it.stored.metrics.append(row)
    return metric(row)


# Corrupted


@defect("batch", {"corrupted": 2})
def values_of_two_rows_swapped(it: Scene) -> str:
    one, two = it.stored.inner(2)
    first, second = it.stored.metrics[one][VALUE], it.stored.metrics[two][VALUE]
    it.alter(one, VALUE, second)
    return it.alter(two, VALUE, first)


def _flipped(it: Scene, bit: int) -> str:
    place = it.inner()
    word = np.float64(it.stored.metrics[place][VALUE]).view(np.uint64) ^ np.uint64(1 << bit)
    return it.alter(place, VALUE, float(word.view(np.float64)))


@defect("batch", {"corrupted": 1})
def lowest_bit_flipped(it: Scene) -> str:
    return _flipped(it, 0)


@defect("batch", {"corrupted": 1})
def sign_flipped(it: Scene) -> str:
    return _flipped(it, 63)


@defect("batch", {"corrupted": 1})
def exponent_flipped(it: Scene) -> str:
    return _flipped(it, 52)


@defect("batch", {"corrupted": 1})
def value_in_single_precision(it: Scene) -> str:
    place = it.inner()
    return it.alter(place, VALUE, float(np.float32(it.stored.metrics[place][VALUE])))


@defect("batch", {"corrupted": 1})
def value_with_fifteen_digits(it: Scene) -> str:
    place = it.inner()
    return it.alter(place, VALUE, float(f"{it.stored.metrics[place][VALUE]:.15g}"))


@defect("bulk", {"corrupted": 1}, cycles=150)
def nan_without_its_flag(it: Scene) -> str:
    return it.alter(it.rare(lambda row: bool(row[IS_NAN])), IS_NAN, False)


@defect("batch", {"corrupted": 1})
def number_with_the_flag_of_nan(it: Scene) -> str:
    return it.alter(it.inner(), IS_NAN, True)


@defect("bulk", {"corrupted": 1}, cycles=150)
def infinity_as_itself(it: Scene) -> str:
    """MLflow stores the largest double instead; the other way round nobody could tell."""
    return it.alter(it.rare(lambda row: row[VALUE] == identity.LARGEST), VALUE, np.inf)


@defect("bulk", {"corrupted": 1}, cycles=150)
def infinity_with_the_other_sign(it: Scene) -> str:
    return it.alter(it.rare(lambda row: row[VALUE] == -identity.LARGEST), VALUE, identity.LARGEST)


@defect("bulk", {"corrupted": 1}, cycles=150)
def largest_double_shortened(it: Scene) -> str:
    return it.alter(it.rare(lambda row: row[VALUE] == identity.LARGEST), VALUE, 1.79769313486231e308)


@defect("bulk", {"corrupted": 1}, cycles=150)
def smallest_double_flushed(it: Scene) -> str:
    return it.alter(it.rare(lambda row: row[VALUE] == 5e-324), VALUE, 0.0)


@defect("bulk", {"corrupted": 1}, cycles=150)
def last_bit_of_a_sum_rounded(it: Scene) -> str:
    return it.alter(it.rare(lambda row: row[VALUE] == 0.1 + 0.2), VALUE, 0.3)


@defect("batch", {"corrupted": 1})
def one_clock_a_millisecond_late(it: Scene) -> str:
    place = it.inner()
    return it.alter(place, TIME, it.stored.metrics[place][TIME] + 1)


@defect("batch", {"corrupted": 2 * 4 * 5})
def all_clocks_an_hour_late(it: Scene) -> str:
    """As where local time was taken for UTC; latest_metrics agree, since they were shifted too."""
    for table in ("metrics", "latest"):
        for place, row in enumerate(getattr(it.stored, table)):
            it.stored.change(table, place, TIME, row[TIME] + HOUR_MS)
    return "differs from what was sent"  # which ten of them are told is anybody's guess


# In the wrong place: a row less where it was sent, and one too many where it is


@defect("batch", {"lost": 1, "duplicated": 1})
def metric_in_the_run_of_another_writer(it: Scene) -> str:
    return it.move(it.inner(), run=it.layout.run_id(1, 0))


@defect("batch", {"lost": 1, "duplicated": 1})
def metric_under_another_key(it: Scene) -> str:
    place = it.inner()
    return it.move(place, key="metric0001" if it.stored.metrics[place][1] == "metric0000" else "metric0000")


@defect("batch", {"lost": 1, "duplicated": 1})
def step_off_by_one(it: Scene) -> str:
    place = it.inner()
    return it.move(place, step=it.stored.metrics[place][STEP] + 1)


@defect("log_metric", {"lost": 1, "unexpected": 1})
def last_step_off_by_one(it: Scene) -> str:
    return it.move(len(it.stored.metrics) - 1, step=it.stored.metrics[-1][STEP] + 1)


@defect("batch", {"lost": 1, "unexpected": 1})
def metric_key_in_another_case(it: Scene) -> str:
    place = it.inner()
    return it.move(place, key=it.stored.metrics[place][1].capitalize())


# Unexpected


@defect("batch", {"unexpected": 5})
def aborted_read(it: Scene) -> str:
    """The database said that the commit failed, and there it is."""
    it.statuses[0][it.layout.commits_per_cycle + 1] = FAIL
    return metric(it.stored.metrics[5])


@defect("batch", {"unexpected": 5})
def commit_that_was_skipped(it: Scene) -> str:
    it.statuses[0][it.layout.commits_per_cycle + 1] = Outcome.UNTOUCHED
    return metric(it.stored.metrics[5])


@defect("log_metric", {"unexpected": 1})
def commit_that_was_never_sent(it: Scene) -> str:
    """Its row is right to the bit; only nobody has sent it yet."""
    more = perfect(it.layout, all_ok(it.layout, 5)).metrics[4]
    assert more not in it.stored.metrics
    it.stored.metrics.append(more)
    it.stored.settle_latest()
    return metric(more)


def _add(it: Scene, run: str, key: str) -> str:
    it.stored.metrics.append((run, key, 0, identity.EPOCH_MS, 1.5, False))
    it.stored.settle_latest()
    return metric(it.stored.metrics[-1])


@defect("batch", {"unexpected": 1})
def metric_under_a_key_of_nobody(it: Scene) -> str:
    return _add(it, it.layout.run_id(0, 0), "loss")


@defect("batch", {"unexpected": 1, NO_ORPHANS: 1}, by_name={"unexpected": 2})  # it and its latest, by whole tables
def orphaned_metric(it: Scene) -> str:
    return _add(it, KEY.run_id(2, 0), "metric0000")


@defect("batch", {"unexpected": 1 + 1 + 1 + 1})
def resurrected_run(it: Scene) -> str:
    """One that was removed with its trial, back with its name tag, a metric and its latest: whole tables show it."""
    gone = KEY.of("planted", 5, 1).run_id(0, 0)
    it.stored.runs.append((gone, identity.run_name(gone), "RUNNING", 0, None, "active", EXPERIMENT - 1))
    it.stored.tags.append((gone, "mlflow.runName", identity.run_name(gone)))
    _add(it, gone, "metric0000")
    return "runs: 1 row more"


# latest_metrics


@defect("batch", {LATEST: 1})
def latest_stale(it: Scene) -> str:
    latest = it.stored.latest[0]
    it.stored.latest[0] = next(row for row in it.stored.metrics if row[:2] == latest[:2] and row != latest)
    return pair(latest)


@defect("batch", {LATEST: 1})
def latest_missing(it: Scene) -> str:
    return pair(it.stored.latest.pop(1))


@defect("batch", {LATEST: 2})
def latest_of_another_run(it: Scene) -> str:
    one = it.stored.latest[0]
    other = next(n for n, row in enumerate(it.stored.latest) if row[0] != one[0] and row[1] == one[1])
    two = it.stored.latest[other]
    it.stored.latest[0], it.stored.latest[other] = (*one[:2], *two[2:]), (*two[:2], *one[2:])
    return pair(two)


@defect("batch", {LATEST: 1})
def latest_too_new(it: Scene) -> str:
    it.stored.change("latest", 0, STEP, it.stored.latest[0][STEP] + 1)
    return pair(it.stored.latest[0])


@defect("batch", {LATEST: 1})
def latest_with_another_last_bit(it: Scene) -> str:
    it.stored.change("latest", 2, VALUE, float(np.nextafter(it.stored.latest[2][VALUE], 0)))
    return pair(it.stored.latest[2])


@defect("batch", {LATEST: 1})
def latest_of_a_key_without_metrics(it: Scene) -> str:
    it.stored.latest.append((it.layout.run_id(1, 0), "loss", 0, 0, 0.0, False))
    return pair(it.stored.latest[-1])


@defect("batch", {LATEST: 1}, forbidden=PRIMARY_KEY)
def latest_twice(it: Scene) -> str:
    it.stored.latest.append(it.stored.latest[0])
    return pair(it.stored.latest[0])
