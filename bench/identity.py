"""What is written is a function of who writes it: values and timestamps computed from an identity.

A metric's identity is (trial key, writer, ordinal). Because its value and timestamp follow from it, both can be
computed again at read-back: a changed bit is seen, and the ledger need not hold what was written.

The function is SplitMix64 used as a counter-based generator (Steele, Lea and Flood, "Fast splittable
pseudorandom number generators", OOPSLA 2014): every word is independent of the order of computation.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
Flags = NDArray[np.bool_]

DAY_MS = 86_400_000
EPOCH_MS = 1_735_689_600_000  # 2025-01-01 UTC
SPAN_DAYS = 32  # timestamps fall into this many hypertable chunks
LARGEST = 1.7976931348623157e308  # how MLflow stores an infinity

_NAME = "trackbench-"
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_WRITER_STEP = np.uint64(0xD1342543DE82EF95)
_RARE = np.array([np.nan, np.inf, -np.inf, 0.0, 5e-324, 0.1 + 0.2, LARGEST, -LARGEST])
_RARE_SHARE = 64  # one value in so many is one of _RARE


@dataclass(frozen=True)
class TrialKey:
    """Names a trial's data: ``prefix`` (12 hex digits) begins each of its run ids, ``word`` seeds its values."""

    prefix: str
    word: int

    @classmethod
    def of(cls, run_id: str, seed: int, trial: int) -> "TrialKey":
        """Derive the key of trial number ``trial`` (0 is the prefill) of the run ``run_id``."""
        owner = hashlib.sha256(f"{run_id}\n{seed}".encode()).hexdigest()[:8]
        word = int.from_bytes(hashlib.sha256(f"{owner}\n{seed}\n{trial}".encode()).digest()[:8], "big")
        return cls(f"{owner}{trial:04x}", word)

    def run_id(self, writer: int, cycle: int) -> str:
        """The id (32 hex digits) of the run that ``writer`` fills in its ``cycle``-th cycle."""
        head = f"{self.prefix}{writer:04x}{cycle:08x}"
        return head + hashlib.sha256(head.encode()).hexdigest()[:8]

    def name(self, writer: int, cycle: int) -> str:
        """The name of that run, and of its experiment; it shows MLflow's users whose they are."""
        return run_name(self.run_id(writer, cycle))

    def locate_name(self, name: str) -> tuple[int, int] | None:
        """(writer, cycle) of a run's name, or None where this trial never gives that name."""
        place = _place(name.removeprefix(_NAME))
        return place if place is not None and self.name(*place) == name else None

    def locate_run(self, run_id: str) -> tuple[int, int] | None:
        """(writer, cycle) of a run id of this trial, or None where this trial never makes that id."""
        place = _place(run_id)
        return place if place is not None and self.run_id(*place) == run_id else None


def _place(digits: str) -> tuple[int, int] | None:
    """The (writer, cycle) that these digits may hold; a sign is no digit, though ``int`` reads it."""
    try:
        writer, cycle = int(digits[12:16], 16), int(digits[16:24], 16)
    except ValueError:
        return None
    return (writer, cycle) if min(writer, cycle) >= 0 else None


def run_name(run_id: str) -> str:
    """The name that goes with a run id of ours."""
    return _NAME + run_id[:24]


def _mix(word: U64) -> U64:
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


def words(key: TrialKey, writer: I64, ordinal: I64) -> U64:
    """One pseudorandom 64-bit word for each (writer, ordinal); the arrays broadcast."""
    stream = _mix(np.uint64(key.word) + np.atleast_1d(writer).astype(np.uint64) * _WRITER_STEP)
    return _mix(stream + (np.atleast_1d(ordinal).astype(np.uint64) + np.uint64(1)) * _GOLDEN)


def metrics(key: TrialKey, writer: I64, ordinal: I64) -> tuple[I64, F64]:
    """(timestamp in ms, value as a client would log it) of each metric; NaN and infinities do occur.

    Values have all 52 bits of the mantissa in use and magnitudes between 2**-16 and 2**16; one in 64 is a rare
    one: NaN, an infinity, zero, the smallest and the largest double, 0.30000000000000004.
    """
    word = words(key, writer, ordinal)
    mantissa = word & np.uint64(0x000FFFFFFFFFFFFF)
    exponent = np.uint64(1023 - 16) + ((word >> np.uint64(52)) & np.uint64(31))
    sign = word & np.uint64(1 << 63)
    value = (sign | (exponent << np.uint64(52)) | mantissa).view(np.float64)
    second = _mix(word)
    rare = second % np.uint64(_RARE_SHARE) == 0
    value = np.where(rare, _RARE[(second >> np.uint64(8)) % np.uint64(len(_RARE))], value)
    offset = (second >> np.uint64(16)) % np.uint64(SPAN_DAYS * DAY_MS)
    return EPOCH_MS + offset.astype(np.int64), value


def as_stored(value: F64) -> tuple[F64, Flags]:
    """(value, is_nan) as MLflow's ``sanitize_metric_value`` stores them."""
    is_nan = np.isnan(value)
    return np.clip(np.where(is_nan, 0.0, value), -LARGEST, LARGEST), is_nan


def text(key: TrialKey, writer: int, ordinal: int, what: str) -> str:
    """The value of a param or tag: printable, now and then long or beyond the Basic Multilingual Plane."""
    word = hashlib.sha256(f"{key.word}/{writer}/{ordinal}/{what}".encode()).hexdigest()
    if ordinal % 16 == 3:
        return f"{word[:12]} żółć 試験 🜚"
    return word * 8 if ordinal % 16 == 7 else word[:20]


def moment(key: TrialKey, writer: int, ordinal: int) -> int:
    """A time in ms (run start; its end follows from it) for this identity."""
    return int(metrics(key, np.array([writer]), np.array([ordinal]))[0][0])
