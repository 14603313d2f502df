"""What a tick says of its samples, against the slow way of counting them."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bench.engine import summary
from bench.outcome import ErrorKind, Outcome
from bench.samples import code
from bench.workload import OPERATIONS, READS, Workload

WORK = Workload("w", "log_batch", metrics=7)
ENDED = st.sampled_from([Outcome.OK, Outcome.FAIL, Outcome.INFO])
samples = st.tuples(st.sampled_from(OPERATIONS), ENDED, st.sampled_from(list(ErrorKind)[1:]), st.integers(0, 10**9))


@given(st.lists(samples, max_size=40))
def test_a_tick_counts_what_was_recorded(taken: list[tuple[str, Outcome, ErrorKind, int]]) -> None:
    rows = []
    for name, outcome, kind, took in taken:
        error = ErrorKind.NONE if outcome is Outcome.OK else kind
        rows.append([5, 5, 5 + took, code(OPERATIONS.index(name), outcome, error, 1, 65_535)])
    told = summary(np.array(rows, dtype=np.int64).reshape(-1, 4), WORK)
    ok = [name for name, outcome, _, _ in taken if outcome is Outcome.OK]
    assert told.writes == sum(name not in READS for name in ok)
    assert told.frame == {
        "ok": len(ok),
        "failed": sum(outcome is Outcome.FAIL for _, outcome, _, _ in taken),
        "unknown": sum(outcome is Outcome.INFO for _, outcome, _, _ in taken),
        "metrics": 7 * ok.count("log_batch"),
        "errors": dict(Counter(kind.label for _, outcome, kind, _ in taken if outcome is not Outcome.OK)),
        "slowest_ms": max((took for *_, took in taken), default=0) / 1e6,
    }
