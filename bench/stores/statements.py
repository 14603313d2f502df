"""The SQL that MLflow 3.17's SqlAlchemyStore sends, captured from it and checked against it by a test.

``?`` is a parameter, ``{key}`` the column that MySQL must quote, ``{join}`` how SQLAlchemy spells JOIN there.
"""

_RUN = (
    "run_uuid", "name", "source_type", "source_name", "entry_point_name", "user_id", "status", "start_time",
    "end_time", "deleted_time", "source_version", "lifecycle_stage", "artifact_uri", "experiment_id",
)  # fmt: skip
_LATEST = ("{key}", "value", "timestamp", "step", "is_nan", "run_uuid")


def _as(table: str, columns: tuple[str, ...]) -> str:
    return ", ".join(f"{table}.{column} AS {table}_{column.strip('{}')}" for column in columns)


def _plain(table: str, columns: tuple[str, ...]) -> str:
    return ", ".join(f"{table}.{column}" for column in columns)


def marks(n: int) -> str:
    """``n`` parameters for an IN list."""
    return ", ".join("?" * n)


SELECT_RUN = f"SELECT {_as('runs', _RUN)} FROM runs WHERE runs.run_uuid = ?"
INSERT_RUN = f"INSERT INTO runs ({', '.join(_RUN)}) VALUES"
FINISH_RUN = "UPDATE runs SET status=?, end_time=? WHERE runs.run_uuid = ?"

_EXPERIMENT = (
    "experiment_id", "name", "workspace", "artifact_location", "lifecycle_stage", "creation_time", "last_update_time",
)  # fmt: skip
_EXPERIMENT_FILTER = "WHERE experiments.experiment_id = ? AND experiments.lifecycle_stage IN (?, ?)"
INSERT_EXPERIMENT = f"INSERT INTO experiments ({', '.join(_EXPERIMENT[1:])}) VALUES"
SELECT_EXPERIMENT = f"SELECT {_as('experiments', _EXPERIMENT)} FROM experiments {_EXPERIMENT_FILTER}"
SELECT_EXPERIMENT_TAGS = (
    "SELECT experiment_tags.{key} AS experiment_tags_key, experiment_tags.value AS experiment_tags_value, "
    "experiment_tags.experiment_id AS experiment_tags_experiment_id, "
    "anon_1.experiments_experiment_id AS anon_1_experiments_experiment_id "
    "FROM (SELECT experiments.experiment_id AS experiments_experiment_id FROM experiments "
    f"{_EXPERIMENT_FILTER}) AS anon_1 "
    "{join} experiment_tags ON anon_1.experiments_experiment_id = experiment_tags.experiment_id"
)

INSERT_METRIC = "INSERT INTO metrics ({key}, value, timestamp, step, is_nan, run_uuid) VALUES"
INSERT_LATEST = "INSERT INTO latest_metrics ({key}, value, timestamp, step, is_nan, run_uuid) VALUES"
_METRIC_ID = ("{key}", "timestamp", "step", "value", "is_nan")


def select_latest_keys(keys: int) -> str:
    """Which of the batch's keys have a latest metric."""
    return (
        "SELECT latest_metrics.{key} AS latest_metrics_key FROM latest_metrics "
        f"WHERE latest_metrics.run_uuid = ? AND latest_metrics.{{key}} IN ({marks(keys)})"
    )


def select_latest(keys: int) -> str:
    """The latest metrics of these keys, in locking order; the dialect's FOR UPDATE follows."""
    return (
        f"SELECT {_as('latest_metrics', _LATEST)} FROM latest_metrics "
        f"WHERE latest_metrics.run_uuid = ? AND latest_metrics.{{key}} IN ({marks(keys)}) "
        "ORDER BY latest_metrics.run_uuid, latest_metrics.{key}"
    )


def update_latest(columns: tuple[str, ...]) -> str:
    """Set those columns that changed, as SQLAlchemy's unit of work does."""
    changes = ", ".join(f"{column}=?" for column in columns)
    return f"UPDATE latest_metrics SET {changes} WHERE latest_metrics.{{key}} = ? AND latest_metrics.run_uuid = ?"


def select_existing_metrics(rows: int) -> str:
    """After a duplicate key: which of these exact rows exist (is_nan bound, where MLflow writes a literal)."""
    exact = " AND ".join(f"metrics.{column} = ?" for column in _METRIC_ID)
    either = exact if rows == 1 else "(" + " OR ".join([exact] * rows) + ")"
    return f"SELECT {_as('metrics', _METRIC_ID)} FROM metrics WHERE metrics.run_uuid = ? AND {either}"


SELECT_PARAM = (
    "SELECT params.{key} AS params_key, params.value AS params_value, params.run_uuid AS params_run_uuid "
    "FROM params WHERE params.run_uuid = ? AND params.{key} = ? AND params.value = ?"
)
INSERT_PARAM = "INSERT INTO params ({key}, value, run_uuid) VALUES"

SELECT_TAG = "SELECT tags.{key}, tags.value, tags.run_uuid FROM tags WHERE tags.{key} = ? AND tags.run_uuid = ?"
INSERT_TAG = "INSERT INTO tags ({key}, value, run_uuid) VALUES"
UPDATE_TAG = "UPDATE tags SET value=? WHERE tags.{key} = ? AND tags.run_uuid = ?"


def select_tags(keys: int) -> str:
    """Which of the batch's tags exist."""
    return (
        "SELECT tags.{key} AS tags_key, tags.value AS tags_value, tags.run_uuid AS tags_run_uuid FROM tags "
        f"WHERE tags.run_uuid = ? AND tags.{{key}} IN ({marks(keys)})"
    )


SELECT_OWN_TAGS = "SELECT tags.{key}, tags.value, tags.run_uuid FROM tags WHERE ? = tags.run_uuid"
SELECT_OWN_LATEST = f"SELECT {_plain('latest_metrics', _LATEST)} FROM latest_metrics WHERE ? = latest_metrics.run_uuid"
SELECT_OWN_PARAMS = "SELECT params.{key}, params.value, params.run_uuid FROM params WHERE ? = params.run_uuid"

_DATASETS = (
    "dataset_uuid", "experiment_id", "name", "digest", "dataset_source_type", "dataset_source", "dataset_schema",
    "dataset_profile",
)  # fmt: skip
_INPUTS = ("input_uuid", "source_type", "source_id", "destination_type", "destination_id", "step")


def select_inputs(runs: int) -> str:
    """The datasets that these runs used."""
    return (
        "SELECT inputs.input_uuid AS inputs_input_uuid, inputs.destination_id AS run_uuid, "
        + ", ".join(f"datasets.{column} AS datasets_{column}" for column in _DATASETS)
        + ", input_tags.input_uuid AS input_tags_input_uuid, input_tags.name AS input_tags_name, "
        "input_tags.value AS input_tags_value FROM inputs {join} datasets ON inputs.source_id = datasets.dataset_uuid "
        "LEFT OUTER JOIN input_tags ON input_tags.input_uuid = inputs.input_uuid "
        f"WHERE inputs.destination_type = ? AND inputs.destination_id IN ({marks(runs)}) ORDER BY run_uuid"
    )


def select_models(source: str) -> str:
    """The models that runs read or wrote; ``source`` is the condition on ``source_id``."""
    return (
        f"SELECT {_as('inputs', _INPUTS)} FROM inputs "
        f"WHERE inputs.source_type = ? AND inputs.source_id {source} AND inputs.destination_type = ?"
    )


def select_eager(table: str, runs: int) -> str:
    """One of the tables that MLflow loads with its runs: tags, params or latest_metrics."""
    columns = {"latest_metrics": ("{key}", "value", "timestamp", "step", "is_nan")}.get(table, ("{key}", "value"))
    return f"SELECT {table}.run_uuid, {_plain(table, columns)} FROM {table} WHERE {table}.run_uuid IN ({marks(runs)})"


SELECT_HISTORY = (
    f"SELECT {_as('metrics', _LATEST)} FROM metrics WHERE metrics.run_uuid = ? AND metrics.{{key}} = ? "
    "ORDER BY metrics.timestamp, metrics.step, metrics.value"
)
SEARCH_RUNS = (
    f"SELECT DISTINCT {_plain('runs', _RUN)} FROM runs "
    "WHERE runs.experiment_id IN (?) AND runs.lifecycle_stage IN (?) "
    "ORDER BY runs.start_time DESC, runs.run_uuid"
)

# Not MLflow's: what follows a bulk load. The greatest (step, timestamp, value) wins, as in MLflow.
DELETE_LATEST = "DELETE FROM latest_metrics WHERE run_uuid >= ? AND run_uuid < ?"
REBUILD_LATEST = (
    "INSERT INTO latest_metrics ({key}, value, timestamp, step, is_nan, run_uuid) "
    "SELECT ranked.{key}, ranked.value, ranked.timestamp, ranked.step, ranked.is_nan, ranked.run_uuid FROM ("
    "SELECT {key}, value, timestamp, step, is_nan, run_uuid, ROW_NUMBER() OVER (PARTITION BY run_uuid, {key} "
    "ORDER BY step DESC, timestamp DESC, value DESC) AS place FROM metrics WHERE run_uuid >= ? AND run_uuid < ?"
    ") AS ranked WHERE ranked.place = 1"
)
