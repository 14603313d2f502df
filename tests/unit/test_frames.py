"""Frames cross a pipe whole, and what a tick says of its samples is what the slow way of counting says."""

import asyncio
import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.frames import PREFIX, pack, read_frame, summary
from bench.histogram import Histogram, buckets
from bench.outcome import ErrorKind, Outcome
from bench.samples import Table, code
from bench.workload import OPERATIONS, READS, Workload

BATCH = Workload("w", "log_batch", metrics=7)
WORKLOADS = (
    BATCH,
    Workload("single", "log_metric"),
    Workload("read", "read"),
    Workload("train", "train", experiments=True),
    Workload("mixed", "mixed", metrics=4, read_share=0.5),
    Workload("bulk", "bulk", metrics=100),
    Workload("traces", "traces", spans=9),
)
ENDED = st.sampled_from([Outcome.OK, Outcome.FAIL, Outcome.INFO, Outcome.SKIPPED])
Taken = tuple[str, Outcome, ErrorKind, int]
samples = st.tuples(
    st.sampled_from(OPERATIONS), ENDED, st.sampled_from(list(ErrorKind)[1:]), st.integers(0, 120 * 10**9)
)


def table(taken: list[Taken]) -> Table:
    """Operations that waited for half of their latency, as they do in an open loop."""
    rows = []
    for name, outcome, kind, took in taken:
        error = ErrorKind.NONE if outcome in (Outcome.OK, Outcome.SKIPPED) else kind
        rows.append([5, 5 + took // 2, 5 + took, code(OPERATIONS.index(name), outcome, error, 1, 65_535)])
    return np.array(rows, dtype=np.int64).reshape(-1, 4)


def by_hand(taken: list[Taken], name: str, work: Workload) -> dict[str, object]:
    mine = [each for each in taken if each[0] == name]
    ok = [took for _, outcome, _, took in mine if outcome is Outcome.OK]
    return {
        "ok": len(ok),
        "failed": sum(outcome is Outcome.FAIL for _, outcome, _, _ in mine),
        "unknown": sum(outcome is Outcome.INFO for _, outcome, _, _ in mine),
        "metrics": len(ok) * work.metrics_per_operation if name == work.operation else 0,
        "sum_ns": sum(ok),
        "max_ns": max(ok, default=0),
        "buckets": dict(Counter(str(int(buckets(np.array([took]))[0])) for took in ok)),
    }


@settings(max_examples=150, deadline=None)
@given(st.lists(samples, max_size=40), st.sampled_from(WORKLOADS))
def test_a_tick_counts_what_was_recorded(taken: list[Taken], work: Workload) -> None:
    told = summary(table(taken), work)
    skipped = sum(outcome is Outcome.SKIPPED for _, outcome, _, _ in taken)
    taken = [each for each in taken if each[1] is not Outcome.SKIPPED]  # they are no operations
    ok = [name for name, outcome, _, _ in taken if outcome is Outcome.OK]
    operations = {name: by_hand(taken, name, work) for name, *_ in taken}
    assert told.writes == sum(name not in READS for name in ok)
    assert told.frame == {
        "ok": len(ok),
        "failed": sum(outcome is Outcome.FAIL for _, outcome, _, _ in taken),
        "unknown": sum(outcome is Outcome.INFO for _, outcome, _, _ in taken),
        "skipped": skipped,
        "metrics": work.metrics_per_operation * ok.count(work.operation),
        "errors": dict(Counter(kind.label for _, outcome, kind, _ in taken if outcome is not Outcome.OK)),
        "slowest_ms": max((took for *_, took in taken), default=0) / 1e6,
        "operations": operations,
    }
    assert json.loads(json.dumps(told.frame)) == told.frame  # plain numbers all through, no numpy


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(samples, max_size=15), max_size=5))
def test_ticks_add_up_to_one_tick_of_everything(parts: list[list[Taken]]) -> None:
    """Totals, sums and histograms of any split are equal to the last operation and the last bucket."""
    ticks = [summary(table(part), BATCH) for part in parts]
    whole = summary(table([each for part in parts for each in part]), BATCH)
    assert sum(tick.writes for tick in ticks) == whole.writes
    for name in ("ok", "failed", "unknown", "skipped", "metrics"):
        assert sum(tick.frame[name] for tick in ticks) == whole.frame[name]  # type: ignore[misc]
    operations: dict[str, dict] = whole.frame["operations"]  # type: ignore[assignment,type-arg]
    for name, expected in operations.items():
        shares = [tick.frame["operations"].get(name) for tick in ticks]  # type: ignore[attr-defined]
        mine = [share for share in shares if share is not None]
        histogram = Histogram()
        for share in mine:
            histogram.add(share["buckets"])
        assert histogram.counts == Counter({int(bucket): n for bucket, n in expected["buckets"].items()})
        assert histogram.n == expected["ok"] == sum(share["ok"] for share in mine)
        assert sum(share["sum_ns"] for share in mine) == expected["sum_ns"]
        assert max(share["max_ns"] for share in mine) == expected["max_ns"]


def test_an_operation_that_never_ended_ok_has_counts_and_no_latency() -> None:
    told = summary(table([("log_batch", Outcome.FAIL, ErrorKind.SQLITE_BUSY, 9)]), BATCH).frame["operations"]
    assert told == {
        "log_batch": {
            "ok": 0, "failed": 1, "unknown": 0, "metrics": 0, "sum_ns": 0, "max_ns": 0, "buckets": {},
        }
    }  # fmt: skip


def test_a_user_that_was_killed_leaves_an_unknown_operation_without_an_error() -> None:
    told = summary(table([("log_batch", Outcome.INFO, ErrorKind.NONE, 9)]), BATCH).frame
    assert (told["unknown"], told["errors"]) == (1, {})


# Frames

messages = st.dictionaries(
    st.text(max_size=8), st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20), max_size=4
)


async def received(data: bytes, step: int) -> list[dict[str, object]]:
    """The frames that arrive where ``data`` comes ``step`` bytes at a time."""
    stream = asyncio.StreamReader()

    async def send() -> None:
        for start in range(0, len(data), step):
            stream.feed_data(data[start : start + step])
            await asyncio.sleep(0)
        stream.feed_eof()

    sending = asyncio.ensure_future(send())
    found = []
    while (frame := await read_frame(stream)) is not None:
        found.append(frame)
    await sending
    return found


@settings(max_examples=100, deadline=None)
@given(st.lists(messages, max_size=5), st.integers(1, 40))
def test_frames_arrive_as_they_were_sent(sent: list[dict[str, object]], step: int) -> None:
    assert asyncio.run(received(b"".join(map(pack, sent)), step)) == sent


@pytest.mark.parametrize("missing", [1, 3, 4, 5, 12])
def test_a_frame_that_is_torn_is_the_end(missing: int) -> None:
    """A load process that is killed tears its last frame: what came before counts, and nothing is raised."""
    whole, torn = pack({"event": "ready"}), pack({"n": 1})
    assert len(torn) == 12
    assert asyncio.run(received((whole + torn)[:-missing], 7)) == [{"event": "ready"}]


def test_a_frame_is_its_length_and_json() -> None:
    data = pack({"a": "ż"})
    assert data[:4] == PREFIX.pack(len(data) - 4) == (len(data) - 4).to_bytes(4, "big")
    assert json.loads(data[4:]) == {"a": "ż"}
