"""Values that SQLite holds and some target must refuse, each to be planted into a store of our MLflow's schema."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

POSTGRESQL: Final = frozenset({"postgresql", "timescaledb"})
MYSQL: Final = frozenset({"mysql", "mariadb"})
SERVERS: Final = POSTGRESQL | MYSQL
ALL: Final = SERVERS | {"sqlite"}
RUN: Final = "e" * 32


class Sql(str):
    """A value that only an SQL expression can write."""


@dataclass(frozen=True)
class Refused:
    """A row that can't be moved to ``targets`` as it is, because of ``column`` (None: of several together)."""

    targets: frozenset[str]
    table: str
    column: str | None
    row: Mapping[str, object]

    def plant(self, connection: sqlite3.Connection) -> None:
        """Insert the row, whatever the schema's checks and foreign keys say, and those that it refers to; commits."""
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("PRAGMA ignore_check_constraints = ON")
        for table, row in _PARENTS:
            _insert(connection, "INSERT OR IGNORE", table, row)
        _insert(connection, "INSERT", self.table, self.row)
        connection.commit()


def _insert(connection: sqlite3.Connection, verb: str, table: str, row: Mapping[str, object]) -> None:
    listed = ", ".join(f'"{name}"' for name in row)
    marks = ", ".join(str(value) if isinstance(value, Sql) else "?" for value in row.values())
    values = [value for value in row.values() if not isinstance(value, Sql)]
    connection.execute(f'{verb} INTO "{table}" ({listed}) VALUES ({marks})', values)


_TIMES: Final = {"created_at": 0, "last_updated_at": 0}
_MODEL: Final = {"name": "m", "provider": "p", "model_name": "m"}
_PARENTS: Final[tuple[tuple[str, Mapping[str, object]], ...]] = (
    ("runs", {"run_uuid": RUN, "experiment_id": 0}),
    ("mcp_servers", {"workspace": "", "name": "", **_TIMES}),
    ("endpoints", {"endpoint_id": "e", "created_at": 0, "last_updated_at": 0}),
    ("model_definitions", {"model_definition_id": "m", **_MODEL, **_TIMES}),
    ("evaluation_datasets", {"dataset_id": "d", "name": "d"}),
    ("logged_models", {"model_id": "m", "experiment_id": 0, "name": "m", "artifact_location": "",
                       "creation_timestamp_ms": 0, "last_updated_timestamp_ms": 0, "status": 1}),
)  # fmt: skip


def _metric(**row: object) -> dict[str, object]:
    return {"key": "k", "value": 0.0, "timestamp": 0, "run_uuid": RUN, "step": 0, "is_nan": 0} | row


def _param(**row: object) -> dict[str, object]:
    return {"key": "k", "value": "v", "run_uuid": RUN} | row


def _run(**row: object) -> dict[str, object]:
    return {"run_uuid": "d" * 32, "experiment_id": 0} | row


def _record(inputs: object) -> dict[str, object]:
    return {"dataset_record_id": "r", "dataset_id": "d", "inputs": inputs, "input_hash": ""}


def _rollup(day: object) -> dict[str, object]:
    return {"id": 1, "experiment_id": 0, "rollup_day": day, "metric_name": "", "grouping_set": "", "sample_count": 0}


def _budget(amount: float) -> dict[str, object]:
    words = ("budget_unit", "duration_unit", "target_scope", "budget_action")
    row: dict[str, object] = {"budget_policy_id": "b", "budget_amount": amount, "duration_value": 1}
    return row | dict.fromkeys(words, "") | _TIMES


def _long_rollup() -> dict[str, object]:
    """Within all lengths, and too long for PostgreSQL's index, where text that repeats would be compressed."""
    draw = random.Random(1)
    lengths = {"metric_name": 250, "grouping_set": 50, "model_name": 500, "model_provider": 500}
    texts = {name: "".join(chr(draw.randrange(0x10000, 0x110000)) for _ in range(n)) for name, n in lengths.items()}
    return _rollup("2025-02-28") | texts


REFUSED: Final[Mapping[str, Refused]] = {
    "a NUL in a text": Refused(POSTGRESQL, "params", "value", _param(value="a\0b")),
    "a NUL in a key": Refused(POSTGRESQL, "metrics", "key", _metric(key="a\0b")),
    "a key too long": Refused(SERVERS, "params", "key", _param(key="k" * 251)),
    "a metric's key too long": Refused(SERVERS, "metrics", "key", _metric(key="é" * 251)),
    "a run's name too long": Refused(SERVERS, "runs", "name", _run(name="n" * 251)),
    "an artifact URI too long": Refused(SERVERS, "runs", "artifact_uri", _run(artifact_uri="u" * 201)),
    "an experiment's name too long": Refused(SERVERS, "experiments", "name", {"experiment_id": 5, "name": "n" * 500}),
    "an experiment's id of 18 digits": Refused(
        SERVERS, "experiments", "experiment_id", {"experiment_id": 123456789012345678, "name": "long"}
    ),
    "a version beyond 32 bits": Refused(
        SERVERS, "mcp_server_versions", "version_patch",
        {"workspace": "", "name": "", "version": "", "version_major": 0, "version_minor": 0, "version_patch": 2**31,
         "version_prerelease_sort_key": "", "server_json": "{}"} | _TIMES,
    ),
    "a text too long for a TEXT": Refused(
        MYSQL, "logged_model_params", "param_value",
        {"model_id": "m", "experiment_id": 0, "param_key": "k", "param_value": "é" * 32_768},
    ),
    "text in an integer": Refused(ALL, "runs", "start_time", _run(start_time="yesterday")),
    "a fraction in an integer": Refused(ALL, "metrics", "step", _metric(step=1.5)),
    "an integer beyond 64 bits": Refused(ALL, "runs", "end_time", _run(end_time=1e19)),
    "text in a double": Refused(ALL, "metrics", "value", _metric(value="high")),
    "bytes in a text": Refused(ALL, "params", "value", _param(value=b"abc")),
    "text in bytes": Refused(
        ALL, "secrets", "wrapped_dek",
        {"secret_id": "s", "secret_name": "s", "encrypted_value": b"", "wrapped_dek": "text", "kek_version": 1,
         "masked_value": ""} | _TIMES,
    ),
    "a text that is no UTF-8": Refused(ALL, "params", "value", _param(value=Sql("CAST(x'61ff62' AS TEXT)"))),
    "a key that is no UTF-8": Refused(ALL, "metrics", "key", _metric(key=Sql("CAST(x'edb080' AS TEXT)"))),
    "a boolean that is neither": Refused(ALL, "metrics", "is_nan", _metric(is_nan=2)),
    "a boolean that is text": Refused(ALL, "metrics", "is_nan", _metric(is_nan="true")),
    "an infinity": Refused(MYSQL, "metrics", "value", _metric(value=float("-inf"))),
    "a double where MySQL has a float": Refused(MYSQL, "budget_policies", "budget_amount", _budget(0.1)),
    "a double beyond any float": Refused(MYSQL, "budget_policies", "budget_amount", _budget(1e300)),
    "no date": Refused(ALL, "sql_assessment_daily_rollups", "rollup_day", _rollup("2025-02-30")),
    "no JSON": Refused(ALL, "evaluation_dataset_records", "inputs", _record("{'a': 1}")),
    "NaN in JSON": Refused(ALL, "evaluation_dataset_records", "inputs", _record('{"a": NaN}')),
    "a large integer in JSON": Refused(
        MYSQL, "evaluation_dataset_records", "inputs", _record('{"a": 123456789012345678901}')
    ),
    "a large double in JSON": Refused(MYSQL, "evaluation_dataset_records", "inputs", _record('{"a": [1e400]}')),
    "a key twice in JSON": Refused(MYSQL, "evaluation_dataset_records", "inputs", _record('{"a": 1, "a": 2}')),
    "JSON too deep": Refused(MYSQL, "evaluation_dataset_records", "inputs", _record("[" * 101 + "]" * 101)),
    "half a character in JSON": Refused(MYSQL, "evaluation_dataset_records", "inputs", _record('["\\ud83d"]')),
    "a metric without its run": Refused(ALL, "metrics", "run_uuid", _metric(run_uuid="0" * 32)),
    "a run without its experiment": Refused(ALL, "runs", "experiment_id", _run(experiment_id=99)),
    "a span metric without its span": Refused(ALL, "span_metrics", None, {"trace_id": "t", "span_id": "s", "key": "k"}),
    "a row too long for PostgreSQL's index": Refused(
        POSTGRESQL, "sql_span_cost_daily_rollups", "metric_name", _long_rollup()
    ),
}  # fmt: skip
