"""Values that careless copies change, all of which every target can hold exactly, for a store made by `made_store`.

What some target must refuse is in `benchmarks.refused_values`.
"""

from __future__ import annotations

import math
import re
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final

from bench.identity import DAY_MS, EPOCH_MS, LARGEST
from bench.migrate.catalog import Catalog, Column, Kind, Table

INT64: Final = (-(2**63), 2**63 - 1)
INT32: Final = (-(2**31), 2**31 - 1)

# Doubles that text makes other doubles of, and pairs that are one unit in the last place apart.
DOUBLES: Final = (
    0.0, -0.0, LARGEST, -LARGEST, 5e-324, -5e-324, 2.2250738585072014e-308, math.nextafter(2.2250738585072014e-308, 0),
    0.1 + 0.2, 0.3, math.nextafter(0.3, 0), 1 / 3, math.pi, math.nextafter(math.pi, 4), 1e22, 1e23, 9007199254740993.0,
    2.0**63, -(2.0**63), 123456789012345680.0, 1e15, 1e16, 1e17, 4.35, 1.005, 0.1, 1.1, 2.675,
    1.7976931348623155e308, 9.5367431640625e-07, 1.0000000000000002, 0.9999999999999999,
)  # fmt: skip

# Pairs and triples that some collation takes for one key.
ALIKE: Final = (
    "loss", "Loss", "LOSS", "lóss", "lo\u0301ss", "loss ", "loss  ", " loss", "loss\t", "loss\n", "loß", "loss\u200b",
    "ﬁ", "fi", "İ", "i", "ı", "I", "K", "\u212a", "Κ", "ａ", "a", "Å", "\u212b", "A\u030a", "😀", "😁", "0", "00",
)  # fmt: skip

TEXTS: Final = (
    "", " ", "\t", "\n", "\r\n", "\\", "\\\\", "\\N", "\\.", "\\n", "\\t", "\\x41", "NULL", "null", "None", "nan",
    "'", "''", '"', '""', "`", "a'b\"c`d", "a,b;c", "{1,2}", "%s", "%", "_", "?", "$1", ":name", "--", "/* */", "#",
    "\x01", "\x08", "\x0b", "\x0c", "\x1a", "\x1b[31m", "\x7f", "\u0080", "\u0085", "\u00a0", "\u2028", "\ufeff",
    "\ufffd", "\uffff", "\U0010ffff", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "e\u0301", "é", "שלום", "日本語",
    "true", "0", "1e400", "a\tb\nc\\d\re", "x" * 500,
)  # fmt: skip
LONG: Final = ("x" * 8000, "é" * 8000, "😀" * 8000, "\\" * 8000, "'" * 8000, "\n" * 8000)

JSONS: Final = (
    "null", "true", "0", '"text"', "[]", "{}", '{"b": 1,   "a": 2}', '{"a":1.0,"b":1}', '{"n": 1E5, "m": -0.5}',
    '{"smallest": 5e-324, "largest": 1.7976931348623157e308, "sum": 0.30000000000000004}',
    '{"int64": [-9223372036854775808, 9223372036854775807]}', '{"schlüssel": "😀", "\\u00e9": "\\u00e9\\n\\t\\\\"}',
    '{"": [[[]], {"a": {"A": null}}], "quote": "\\"\'`"}',
)  # fmt: skip
DATES: Final = ("2024-02-29", "1970-01-01", "1000-01-01", "9999-12-31")
BYTES: Final = (b"", b"\x00", bytes(range(256)), b"\\x00", b"'\"\\", b"text", b"\xff" * 1000)

_SPECIAL: Final[dict[Kind, Sequence[object]]] = {Kind.JSON: JSONS, Kind.DATE: DATES, Kind.BYTES: BYTES}
_RUN: Final = "f" * 30  # and two digits: the runs that these rows belong to
_ALLOWED = re.compile(r"[\"`(]?(\w+)[\"`]? IN \((.+?)\)", re.IGNORECASE)


def add(connection: sqlite3.Connection, catalog: Catalog) -> None:
    """Write them into a store of our MLflow's schema, in the caller's transaction; no table stays empty."""
    _experiments(connection)
    _runs(connection)
    _metrics(connection)
    _texts(connection)
    _models(connection)
    _traces(connection)
    for table in catalog.tables.values():
        if connection.execute(f'SELECT NOT EXISTS (SELECT 1 FROM "{table.name}")').fetchone()[0]:
            wanted = [len(_SPECIAL[column.kind]) for column in table.columns if column.kind in _SPECIAL]
            _fill(connection, table, max(wanted, default=3))


def insert(connection: sqlite3.Connection, table: str, columns: str, rows: Iterable[Sequence[object]]) -> None:
    """Insert ``rows``; ``columns`` are names with blanks between them."""
    names = columns.split()
    listed, marks = ", ".join(f'"{name}"' for name in names), ", ".join("?" * len(names))
    connection.executemany(f'INSERT INTO "{table}" ({listed}) VALUES ({marks})', rows)


def run(number: int) -> str:
    """The id of one of the runs that hold these values: 0 to 3."""
    return f"{_RUN}{number:02x}"


def _experiments(connection: sqlite3.Connection) -> None:
    """Numbers up to the largest, with gaps; names as alike as a unique constraint lets them be."""
    columns = "experiment_id name artifact_location lifecycle_stage creation_time last_update_time"
    last = connection.execute("SELECT max(experiment_id) FROM experiments").fetchone()[0]
    names = [*ALIKE, "😀" * 256, ""]
    rows: list[Sequence[object]] = [
        (last + 7 + n, name, None, "active", None, INT64[1]) for n, name in enumerate(names)
    ]
    rows.append((INT32[1] - 1, "nearly the largest number", "", "deleted", INT64[0], None))
    insert(connection, "experiments", columns, rows)
    texts = [(f"text {n}", text, 0) for n, text in enumerate([*TEXTS, None, "😀" * 20_000])]
    insert(connection, "experiment_tags", "key value experiment_id", texts)


def _runs(connection: sqlite3.Connection) -> None:
    """One that is complete, a deleted one, one with nothing but its id, and one that no experiment has."""
    columns = (
        "run_uuid name source_type source_name entry_point_name user_id status start_time end_time source_version "
        "lifecycle_stage artifact_uri experiment_id deleted_time"
    )
    long = ("😀" * 250, "PROJECT", "é" * 500, "", "'", "KILLED", *INT64, "\\N", "active", "x" * 200, 0, None)
    gone = ("deleted", "JOB", "", "main", "me", "FAILED", -1, 0, "", "deleted", "", INT32[1] - 1, EPOCH_MS)
    lost = ("lost", "LOCAL", None, None, "me", "RUNNING", 1, None, None, "active", None, None, None)
    rows: list[Sequence[object]] = [(run(0), *long), (run(1), *gone), (run(2), *[None] * 13), (run(3), *lost)]
    insert(connection, "runs", columns, rows)


def _metrics(connection: sqlite3.Connection) -> None:
    """Keys that differ in nothing but the value, the step or the flag; and the latest of each by MLflow's rule."""
    each = dict.fromkeys(DOUBLES)  # a key takes both zeros for one
    rows: list[Sequence[object]] = [("doubles", value, EPOCH_MS, run(0), 0, 0) for value in each]
    rows += [("doubles", 0.0, EPOCH_MS, run(0), 0, 1)]  # NaN, as MLflow stores it
    rows += [(key, float(n), EPOCH_MS + n * DAY_MS, run(1), n, 0) for n, key in enumerate(ALIKE)]
    rows += [("steps", 1.0, EPOCH_MS, run(2), step, 0) for step in (*INT64, -1, 0, 1, *INT32)]
    rows += [("times", 1.0, time, run(2), 0, 0) for time in (*INT64, -1, 0, 1, -DAY_MS)]
    rows += [("é" * 250, 1.0, EPOCH_MS, run(3), 0, 1), ("😀" * 250, 1.0, EPOCH_MS, run(3), 0, 0)]
    insert(connection, "metrics", "key value timestamp run_uuid step is_nan", rows)
    connection.execute(
        "INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid) "
        "SELECT key, value, timestamp, step, is_nan, run_uuid FROM (SELECT *, row_number() OVER "
        "(PARTITION BY run_uuid, key ORDER BY step DESC, timestamp DESC, value DESC, is_nan) AS place "
        "FROM metrics WHERE run_uuid >= ?) WHERE place = 1",
        (run(0),),
    )


def _texts(connection: sqlite3.Connection) -> None:
    texts = [*TEXTS, *LONG]
    insert(connection, "params", "key value run_uuid", ((f"text {n}", text, run(0)) for n, text in enumerate(texts)))
    insert(connection, "params", "key value run_uuid", ((key, key, run(1)) for key in ALIKE))
    insert(connection, "tags", "key value run_uuid", ((f"text {n}", t, run(0)) for n, t in enumerate([*texts, None])))
    insert(connection, "tags", "key value run_uuid", ((key, None, run(1)) for key in ALIKE))


def _models(connection: sqlite3.Connection) -> None:
    insert(connection, "registered_models", "name creation_time description", ((name, -1, "") for name in ALIKE))
    versions = [(name, INT32[1] if n % 2 else n, TEXTS[n], None) for n, name in enumerate(ALIKE)]
    insert(connection, "model_versions", "name version description run_id", versions)
    tags = [(f"text {n}", text, "loss", 0) for n, text in enumerate([*TEXTS, None])]
    insert(connection, "model_version_tags", "key value name version", tags)
    insert(connection, "registered_model_aliases", "alias version name", ((key, 0, "loss") for key in ALIKE))


def _traces(connection: sqlite3.Connection) -> None:
    """Spans longer than 65,535 bytes, without an end, with one before their beginning; and doubles outside of keys."""
    columns = "request_id experiment_id timestamp_ms execution_time_ms status request_preview trace_name"
    insert(connection, "trace_info", columns, [("tr-nasty", 0, -1, None, "ERROR", "😀" * 1000, "é" * 4096)])
    insert(connection, "trace_tags", "key value request_id", ((key, key, "tr-nasty") for key in ALIKE))
    columns = "trace_id experiment_id span_id name type status start_time_unix_nano end_time_unix_nano content"
    times = ((0, None), (2**62, 2**62 + 1), (10, 9), (-1, INT64[1] - 1))
    contents = ("", "\\" * 70_000, "😀" * 20_000, "{}")
    rows = [
        ("tr-nasty", 0, f"span {n}", None, "", "OK", *time, content)
        for n, (time, content) in enumerate(zip(times, contents, strict=True))
    ]
    insert(connection, "spans", columns, rows)
    doubles = [(f"double {n}", value) for n, value in enumerate([*DOUBLES, None])]
    insert(connection, "span_metrics", "trace_id span_id key value", (("tr-nasty", "span 0", *one) for one in doubles))
    insert(connection, "trace_metrics", "request_id key value", (("tr-nasty", *one) for one in doubles))


def _fill(connection: sqlite3.Connection, table: Table, rows: int) -> None:
    """Put rows into any table: a value of its kind in each column, and parents that are there."""
    parents: dict[str, list[Any]] = {}
    for key in table.foreign_keys:
        listed = ", ".join(f'"{name}"' for name in key.referred)
        found = connection.execute(f'SELECT {listed} FROM "{key.table}" LIMIT 100').fetchall()
        for place, name in enumerate(key.columns):
            parents.setdefault(name, [row[place] for row in found])
    allowed = {match[1]: match[2] for check in table.checks for match in _ALLOWED.finditer(check)}
    made = []
    for n in range(rows):
        row = []
        for column in table.stored:
            if column.name in parents:
                row.append(parents[column.name][n % len(parents[column.name])])
            elif column.name in allowed:
                row.append(re.findall(r"'([^']*)'|(\d+)", allowed[column.name])[0][0] or 0)
            else:
                row.append(_value(column, n))
        made.append(row)
    insert(connection, table.name, " ".join(column.name for column in table.stored), made)


def _value(column: Column, n: int) -> object:
    if column.name == "workspace":
        return "default"  # the only one that MLflow shows unless workspaces are turned on
    texts = f"{column.name} {n}"[-(column.characters or 100) :]
    if column.kind in _SPECIAL:
        return _SPECIAL[column.kind][n % len(_SPECIAL[column.kind])]
    plain: dict[Kind, object] = {Kind.INTEGER: n, Kind.BOOLEAN: n % 2, Kind.TEXT: texts}
    return plain.get(column.kind, n + 0.5)  # which single precision holds as well
