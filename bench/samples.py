"""Raw samples: one row an operation, recorded into a flat array, kept as Parquet.

Times are nanoseconds on the monotonic clock: absolute while recorded, since the trial's epoch in Parquet.
"""

from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

Table = NDArray[np.int64]  # one row a sample, FIELDS words each
FIELDS = 4  # scheduled, start, end, code: the 64-bit words of one sample in the recorder

SCHEMA = pa.schema(
    [
        ("scheduled_ns", pa.int64()),
        ("start_ns", pa.int64()),
        ("end_ns", pa.int64()),
        ("operation", pa.uint8()),
        ("outcome", pa.uint8()),
        ("error", pa.uint8()),
        ("attempts", pa.uint8()),
        ("writer", pa.uint16()),
    ]
)


def code(operation: int, outcome: int, error: int = 0, attempts: int = 1, writer: int = 0) -> int:
    """Pack what is not a time into the sample's fourth word."""
    return operation | outcome << 8 | error << 16 | attempts << 24 | writer << 32


@dataclass(frozen=True)
class Samples:
    """Columns of equal length, one entry an operation; times in ns."""

    scheduled_ns: NDArray[np.int64]
    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    operation: NDArray[np.uint8]
    outcome: NDArray[np.uint8]
    error: NDArray[np.uint8]
    attempts: NDArray[np.uint8]
    writer: NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.start_ns)

    def where(self, keep: NDArray[np.bool_]) -> "Samples":
        """The samples for which ``keep`` (same length) is true."""
        return Samples(*(getattr(self, name)[keep] for name in SCHEMA.names))

    @property
    def service_ms(self) -> NDArray[np.float64]:
        """Service time of each operation, from its actual start."""
        return np.asarray((self.end_ns - self.start_ns) / 1e6)

    @property
    def response_ms(self) -> NDArray[np.float64]:
        """Response time of each operation, from its scheduled start."""
        return np.asarray((self.end_ns - self.scheduled_ns) / 1e6)


def unpack(table: Table) -> Samples:
    """Turn the recorder's words into columns."""
    packed = table[:, 3]
    return Samples(
        table[:, 0].copy(),
        table[:, 1].copy(),
        table[:, 2].copy(),
        (packed & 0xFF).astype(np.uint8),
        (packed >> 8 & 0xFF).astype(np.uint8),
        (packed >> 16 & 0xFF).astype(np.uint8),
        (packed >> 24 & 0xFF).astype(np.uint8),
        (packed >> 32 & 0xFFFF).astype(np.uint16),
    )


class Recorder:
    """Collects samples in memory; `drain` appends them to a flat file, so that a killed engine loses 200 ms."""

    def __init__(self, path: Path) -> None:
        self._words = array("q")
        self.record: Callable[[tuple[int, int, int, int]], None] = self._words.extend
        self._file = path.open("wb")

    def drain(self) -> Table:
        """Append what was recorded since the last call to the file and return it, not unpacked: the load waits."""
        taken = np.array(self._words, dtype=np.int64).reshape(-1, FIELDS)
        self._words.tofile(self._file)
        self._file.flush()
        del self._words[:]
        return taken

    def close(self) -> None:
        """Write what is left."""
        self.drain()
        self._file.close()


def compact(raws: Mapping[Path, int], parquet: Path) -> None:
    """Turn recorders' flat files into one Parquet file and remove them; each with its epoch, the time 0 of its clock.

    Files that do not exist are passed over: their load process never began.
    """
    present = {raw: epoch for raw, epoch in raws.items() if raw.exists()}
    if not present:
        return
    with pq.ParquetWriter(parquet, SCHEMA, compression="zstd") as target:
        for raw, epoch_ns in present.items():
            _append(raw, epoch_ns, target)
    for raw in present:
        raw.unlink()


def _append(raw: Path, epoch_ns: int, target: pq.ParquetWriter) -> None:
    with raw.open("rb") as source:
        while chunk := source.read(FIELDS * 8 * _ROW_GROUP):
            whole = len(chunk) // (FIELDS * 8) * FIELDS * 8  # a killed load process may have torn the last sample
            part = unpack(np.frombuffer(chunk[:whole], dtype=np.int64).reshape(-1, FIELDS))
            for name in ("scheduled_ns", "start_ns", "end_ns"):
                getattr(part, name)[:] -= epoch_ns
            target.write_table(pa.table([getattr(part, name) for name in SCHEMA.names], schema=SCHEMA))


_ROW_GROUP = 100_000


def load(path: Path) -> Samples:
    """Read a trial's samples; a trial that ended before its first operation has none."""
    table = pq.read_table(path) if path.exists() else SCHEMA.empty_table()
    return Samples(*(table.column(name).to_numpy() for name in SCHEMA.names))
