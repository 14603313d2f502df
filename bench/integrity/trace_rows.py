"""What traces and their spans are made from: a function of who writes them, as everything that is written.

A cycle of ``traces`` is two commits: the trace's own rows, then all its spans.
"""

from typing import NamedTuple

import numpy as np

from bench import identity
from bench.identity import TrialKey

TYPES = ("CHAIN", "LLM", "TOOL", "RETRIEVER")
_MS = 1_000_000  # ns
_SHORTEST_MS, _DURATIONS_MS = 1_000, 600_000
_PREFIX = "tr-"


class Trace(NamedTuple):
    """One row of trace_info, with its metadata and tags; times in ms."""

    trace_id: str
    name: str
    start: int
    duration: int
    request: str
    response: str
    metadata: dict[str, str]
    tags: dict[str, str]


class Span(NamedTuple):
    """One row of spans; times in ns since the Unix epoch. Attributes as a client sets them."""

    span_id: str
    parent_id: str | None
    name: str
    type: str
    start: int
    end: int
    attributes: dict[str, str | int | float]


def trace_id(key: TrialKey, writer: int, cycle: int) -> str:
    """The id of a trace, chosen by the client."""
    return _PREFIX + key.run_id(writer, cycle)


def locate(key: TrialKey, found: str) -> tuple[int, int] | None:
    """(writer, cycle) of a trace id of this trial, or None where this trial never makes that id."""
    return key.locate_run(found[len(_PREFIX) :]) if found.startswith(_PREFIX) else None


def bounds(key: TrialKey) -> tuple[str, str]:
    """The trial's trace ids lie from the first on and before the second."""
    low = _PREFIX + key.prefix
    return low, low + "g"  # "g" sorts after every hex digit


def trace(key: TrialKey, writer: int, cycle: int) -> Trace:
    """The trace of (writer, cycle)."""
    word = int(identity.words(key, np.array([writer]), np.array([cycle]))[0])
    request, response = (f"{what} {identity.text(key, writer, cycle, what)}" for what in ("request", "response"))
    metadata = {
        "mlflow.trace_schema.version": "3",
        "mlflow.traceInputs": request,
        "mlflow.traceOutputs": response,
        "mlflow.source.name": "trackbench",
        "mlflow.user": "trackbench",
    }
    return Trace(
        trace_id(key, writer, cycle),
        key.name(writer, cycle),
        identity.moment(key, writer, cycle),
        _SHORTEST_MS + word % _DURATIONS_MS,
        request,
        response,
        metadata,
        {"trackbench": identity.text(key, writer, cycle, "tracetag")},
    )


def span_id(key: TrialKey, writer: int, cycle: int, number: int) -> str:
    """The id (16 hex digits) of a trace's span; its first half is the span's number from 1 on."""
    head = f"{number + 1:08x}"
    word = int(identity.words(key, np.array([writer]), np.array([cycle]))[0])
    return head + f"{(word ^ (number + 1) * 0x9E3779B1) & 0xFFFFFFFF:08x}"


def spans(key: TrialKey, writer: int, cycle: int, count: int) -> list[Span]:
    """The spans of (writer, cycle), each with an earlier one as its parent; the first is the root.

    The root begins and ends in the very milliseconds of its trace, so that MLflow finds nothing to correct.
    """
    of = trace(key, writer, cycle)
    ordinals = np.arange(cycle * count, (cycle + 1) * count)
    words = identity.words(key, np.array([writer]), ordinals).tolist()
    doubles = identity.as_stored(identity.metrics(key, np.array([writer]), ordinals)[1])[0].tolist()
    start, end = of.start * _MS, (of.start + of.duration) * _MS
    third = of.duration * _MS // 3
    ids = [span_id(key, writer, cycle, number) for number in range(count)]
    result = []
    for number, (ordinal, word, double) in enumerate(zip(ordinals.tolist(), words, doubles, strict=True)):
        offset, rest = word % third, (word >> 32) % third
        kind = TYPES[0] if number == 0 else TYPES[1 + word % (len(TYPES) - 1)]
        attributes: dict[str, str | int | float] = {
            "mlflow.spanType": kind,
            "mlflow.spanInputs": f"input {identity.text(key, writer, ordinal, 'input')}",
            "mlflow.spanOutputs": f"output {identity.text(key, writer, ordinal, 'output')}",
            "trackbench.integer": word >> 1,
            "trackbench.double": double,
        }
        result.append(
            Span(
                ids[number],
                ids[(number - 1) // 2] if number else None,
                f"span {identity.text(key, writer, ordinal, 'span')}",
                kind,
                start + (offset if number else offset % _MS),
                end - rest if number else end + rest % _MS,
                attributes,
            )
        )
    return result
