"""What it costs to record an operation, and how much memory ten million of them take.

.venv/bin/python -m benchmarks.recording
"""

import resource
import tempfile
import time
from pathlib import Path

from bench import ledger, samples
from bench.outcome import Outcome

OPERATIONS = 10_000_000
_DRAIN_EVERY = 3_000  # operations in 200 ms at 15,000 a second


def main() -> None:
    """Print both figures."""
    with tempfile.TemporaryDirectory() as folder:
        recorder = samples.Recorder(Path(folder) / "samples.raw")
        book = ledger.Ledger(Path(folder) / "ledger.bin")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        word = samples.code(0, Outcome.OK, writer=7)
        record, status, now = recorder.record, book.status, time.perf_counter_ns
        spent = 0
        for first in range(0, OPERATIONS, _DRAIN_EVERY):
            last = min(first + _DRAIN_EVERY, OPERATIONS)
            book.ensure(last)
            begin = now()
            for _ in range(first, last):
                record((begin, begin, begin, word))
            spent += now() - begin
            for commit in range(first, last):
                status[commit] = Outcome.RESERVED
                status[commit] = Outcome.OK
            recorder.drain()
        book.close(OPERATIONS)
        recorder.close()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(f"recording one operation: {spent / OPERATIONS / 1000:.3f} us (wanted at most 0.5)")
        print(
            f"ledger and samples of {OPERATIONS:,} writes: {peak / 1024:.0f} MB in all, "
            f"{(peak - before) / 1024:.0f} MB of it for them (wanted under 300)"
        )


if __name__ == "__main__":
    main()
