"""What is recorded comes back from Parquet bit for bit, and a torn end costs the torn sample only."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import samples
from bench.job import samples_path
from bench.samples import SCHEMA, Recorder, Samples, code

EPOCH = 10**15
BYTES = samples.FIELDS * 8

sample = st.tuples(
    st.integers(EPOCH, EPOCH + 10**12),  # scheduled
    st.integers(0, 10**9),  # lag
    st.integers(0, 10**10),  # service
    st.integers(0, 255),  # operation
    st.integers(0, 255),  # outcome
    st.integers(0, 255),  # error
    st.integers(0, 255),  # attempts
    st.integers(0, 65535),  # writer
)
Row = tuple[int, int, int, int, int, int, int, int]


def words(row: Row) -> tuple[int, int, int, int]:
    scheduled, lag, service, *rest = row
    return scheduled, scheduled + lag, scheduled + lag + service, code(*rest)


def columns(rows: list[Row], epoch: int) -> list[list[int]]:
    flat = [(row[0] - epoch, row[0] + row[1] - epoch, row[0] + row[1] + row[2] - epoch, *row[3:]) for row in rows]
    return [list(column) for column in zip(*flat, strict=True)] or [[]] * 8


def as_lists(found: Samples) -> list[list[int]]:
    return [getattr(found, name).tolist() for name in SCHEMA.names]


@settings(max_examples=40, deadline=None)
@given(st.lists(sample, max_size=20), st.lists(sample, max_size=20), st.lists(sample, max_size=20))
def test_recorded_drained_compacted_and_loaded_is_the_same(
    first: list[Row], second: list[Row], rest: list[Row]
) -> None:
    with TemporaryDirectory() as name:
        raw, parquet = Path(name, "samples.raw"), Path(name, "samples.parquet")
        recorder = Recorder(raw)
        for part in (first, second):
            for row in part:
                recorder.record(words(row))
            assert as_lists(samples.unpack(recorder.drain())) == columns(part, 0)
        for row in rest:
            recorder.record(words(row))
        recorder.close()
        assert raw.stat().st_size == BYTES * (len(first) + len(second) + len(rest))
        samples.compact({raw: EPOCH}, parquet)
        assert not raw.exists()
        found = samples.load(parquet)
        assert len(found) == len(first) + len(second) + len(rest)
        assert as_lists(found) == columns(first + second + rest, EPOCH)


def test_what_was_drained_is_on_disk_at_once(tmp_path: Path) -> None:
    """A killed engine loses what came after the last drain, and nothing before it."""
    recorder = Recorder(tmp_path / "raw")
    recorder.record((1, 2, 3, code(1, 2)))
    recorder.drain()
    recorder.record((4, 5, 6, code(1, 2)))
    assert (tmp_path / "raw").stat().st_size == BYTES
    assert len(recorder.drain()) == 1
    assert len(recorder.drain()) == 0
    recorder.close()


@pytest.mark.parametrize("missing", [1, 8, BYTES - 1])
def test_a_torn_file_loses_the_torn_sample_only(tmp_path: Path, missing: int) -> None:
    rows: list[Row] = [(EPOCH + n, 1, 2, 1, 2, 0, 1, n) for n in range(5)]
    recorder = Recorder(tmp_path / "raw")
    for row in rows:
        recorder.record(words(row))
    recorder.close()
    with (tmp_path / "raw").open("r+b") as file:
        file.truncate(5 * BYTES - missing)
    samples.compact({tmp_path / "raw": EPOCH}, tmp_path / "p")
    assert as_lists(samples.load(tmp_path / "p")) == columns(rows[:4], EPOCH)


def test_a_file_torn_within_its_first_sample_has_none(tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(b"\1" * (BYTES - 1))
    samples.compact({tmp_path / "raw": 0}, tmp_path / "p")
    assert len(samples.load(tmp_path / "p")) == 0


def test_a_long_file_becomes_several_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "_ROW_GROUP", 10)
    table = np.arange(100, dtype=np.int64).reshape(25, 4)
    (tmp_path / "raw").write_bytes(table.tobytes() + b"torn")
    samples.compact({tmp_path / "raw": 0}, tmp_path / "p")
    assert pq.ParquetFile(tmp_path / "p").num_row_groups == 3
    assert samples.load(tmp_path / "p").end_ns.tolist() == table[:, 2].tolist()


def test_no_file_is_no_samples(tmp_path: Path) -> None:
    samples.compact({tmp_path / "absent.raw": 0}, tmp_path / "absent.parquet")
    assert not (tmp_path / "absent.parquet").exists()
    found = samples.load(tmp_path / "absent.parquet")
    assert len(found) == 0
    assert found.service_ms.tolist() == []


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.lists(sample, max_size=12), st.integers(0, EPOCH)), min_size=1, max_size=4))
def test_the_parts_of_several_load_processes_become_one_table(parts: list[tuple[list[Row], int]]) -> None:
    """Each process has a clock of its own; every sample of every part is there once, from its own time 0."""
    with TemporaryDirectory() as name:
        raws = {}
        for number, (rows, epoch) in enumerate(parts):
            raw = samples_path(Path(name), number)
            recorder = Recorder(raw)
            for row in rows:
                recorder.record(words(row))
            recorder.close()
            raws[raw] = epoch
        samples.compact(raws, Path(name, "samples.parquet"))
        assert [path.name for path in Path(name).iterdir()] == ["samples.parquet"]
        found = as_lists(samples.load(Path(name, "samples.parquet")))
    expected: list[list[int]] = [[] for _ in SCHEMA.names]
    for rows, epoch in parts:
        for mine, more in zip(expected, columns(rows, epoch), strict=True):
            mine.extend(more)
    assert found == expected


def test_a_part_that_never_began_costs_the_others_nothing(tmp_path: Path) -> None:
    (tmp_path / "samples-1.raw").write_bytes(np.array([9, 9, 9, code(1, 2)], dtype=np.int64).tobytes())
    samples.compact({samples_path(tmp_path, part): 9 for part in range(3)}, tmp_path / "p")
    assert samples.load(tmp_path / "p").end_ns.tolist() == [0]


def test_service_runs_from_the_start_and_response_from_the_schedule() -> None:
    recorded = np.array([[1_000_000, 3_000_000, 3_500_000, code(0, 2)], [0, 0, 1, code(0, 2)]])
    found = samples.unpack(recorded)
    assert found.service_ms.tolist() == [0.5, 1e-6]
    assert found.response_ms.tolist() == [2.5, 1e-6]


def test_the_fields_of_a_code_do_not_run_into_each_other() -> None:
    parts = {"operation": 0xFF, "outcome": 0xFF, "error": 0xFF, "attempts": 0xFF, "writer": 0xFFFF}
    for name, full in parts.items():
        given_ = dict.fromkeys(parts, 0) | {name: full}
        found = samples.unpack(np.array([[0, 0, 0, code(**given_)]]))
        assert {part: int(getattr(found, part)[0]) for part in parts} == given_


def test_where_keeps_whole_rows() -> None:
    table = np.array([[n, n + 10, n + 20, code(n, n + 1, n + 2, n + 3, n + 4)] for n in range(4)])
    found = samples.unpack(table)
    kept = found.where(np.array([False, True, False, True]))
    expected = [
        list(column)
        for column in zip(*((n, n + 10, n + 20, n, n + 1, n + 2, n + 3, n + 4) for n in (1, 3)), strict=True)
    ]
    assert as_lists(kept) == expected
