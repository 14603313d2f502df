"""What a load process and its owner say to one another: frames of JSON, and the summary that a tick carries.

A frame is a 4-byte big-endian length and as many bytes of JSON. Orders go to the load process: first the job, then
``{"writers": N}``, or ``{"clock_s": S}`` to set its wall clock wrong; the end of its stdin ends the load. Back come
``ready``, a ``tick`` every 200 ms, and ``end`` or ``failed``.
"""

import asyncio
import json
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench import histogram
from bench.outcome import ErrorKind, Outcome
from bench.samples import Table
from bench.workload import OPERATIONS, READS, Workload

TICK_S = 0.2
PREFIX = struct.Struct(">I")
_OUTCOMES = len(Outcome)
_WRITING = [number for number, name in enumerate(OPERATIONS) if name not in READS]


def pack(message: dict[str, object]) -> bytes:
    """A frame."""
    body = json.dumps(message).encode()
    return PREFIX.pack(len(body)) + body


async def read_frame(stream: asyncio.StreamReader) -> dict[str, object] | None:
    """The next frame, or None at the end of the stream."""
    try:
        (length,) = PREFIX.unpack(await stream.readexactly(PREFIX.size))
        message: dict[str, object] = json.loads(await stream.readexactly(length))
    except asyncio.IncompleteReadError:
        return None
    return message


@dataclass(frozen=True)
class Summary:
    """What a tick tells of its 200 ms, and how many ok writes are in it."""

    frame: dict[str, object]
    writes: int


def summary(table: Table, workload: Workload) -> Summary:
    """Some recorded samples in a few numbers: by outcome, by error, and by operation with a latency histogram.

    Latency counts from when an operation was due; in a closed loop that is when it began. Arrivals that were skipped
    are counted, and that is all: they are no operations.

    Few and cheap steps, and no columns: this runs in the load process while the load does.
    """
    packed = table[:, 3]
    pairs = np.bincount((packed & 0xFF) * _OUTCOMES + (packed >> 8 & 0xFF), minlength=len(OPERATIONS) * _OUTCOMES)
    ended = pairs.reshape(-1, _OUTCOMES)
    ok = ended[:, Outcome.OK]
    skipped = int(ended[:, Outcome.SKIPPED].sum())
    if skipped:
        table = table[packed >> 8 & 0xFF != Outcome.SKIPPED]
        packed, ended[:, Outcome.SKIPPED] = table[:, 3], 0
    errors = np.bincount(packed >> 16 & 0xFF) if ok.sum() < len(table) else np.zeros(0, dtype=np.int64)
    operations = {
        OPERATIONS[number]: _operation(table, int(number), ended[number], workload)
        for number in np.flatnonzero(ended.sum(axis=1))
    }
    frame: dict[str, object] = {
        "ok": int(ok.sum()),
        "failed": int(ended[:, Outcome.FAIL].sum()),
        "unknown": int(ended[:, Outcome.INFO].sum()),
        "skipped": skipped,
        "metrics": sum(one["metrics"] for one in operations.values()),
        "errors": {ErrorKind(kind).label: int(n) for kind, n in enumerate(errors) if kind and n},
        "slowest_ms": float((table[:, 2] - table[:, 0]).max()) / 1e6 if len(table) else 0.0,
        "operations": operations,
    }
    return Summary(frame, int(ok[_WRITING].sum()))


def _operation(table: Table, number: int, ended: Any, workload: Workload) -> dict[str, Any]:
    ok = int(ended[Outcome.OK])
    wanted = (number | Outcome.OK << 8) == (table[:, 3] & 0xFFFF)
    latency = table[wanted, 2] - table[wanted, 0]
    found, counts = np.unique(histogram.buckets(latency), return_counts=True)
    return {
        "ok": ok,
        "failed": int(ended[Outcome.FAIL]),
        "unknown": int(ended[Outcome.INFO]),
        "metrics": ok * workload.metrics_per_operation if OPERATIONS[number] == workload.operation else 0,
        "sum_ns": int(latency.sum()),
        "max_ns": int(latency.max(initial=0)),
        "buckets": dict(zip(map(str, found.tolist()), counts.tolist(), strict=True)),
    }
