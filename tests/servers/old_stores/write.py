"""Run by an old MLflow, with the Python that it is installed in: writes one store, the same each time.

``python write.py KIND PATH``; the kinds are ``tracking`` and ``auth`` (a SQLite file) and ``files`` (a folder). MLflow
makes folders in the current one. Imports nothing of ours; clock, random ids and salts are replaced before MLflow is
imported.
"""

import os
import random
import secrets
import sys
import time
import uuid
from pathlib import Path

_chance = random.Random(20_231_121)
_NOW = 1_700_000_000


def _instead() -> None:
    os.environ.update(LOGNAME="researcher", MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    time.time = lambda: float(_NOW)
    time.time_ns = lambda: _NOW * 10**9
    uuid.uuid4 = lambda: uuid.UUID(int=_chance.getrandbits(128), version=4)
    secrets.choice = _chance.choice
    random.randint = _chance.randint


NAN, INF = float("nan"), float("inf")
VALUES = [0.0, -0.0, 1.0, 0.1 + 0.2, NAN, INF, -INF, 5e-324, 1.7976931348623157e308, -1e-7, 123456789.123456789]
TEXTS = [
    "",
    " leading and trailing ",
    "żółć",
    "rocket 🚀",
    "line\nbreak\tand tab",
    "quote ' and \" and \\",
    "%s {} $1 ?",
]


def tracking(uri: str) -> None:
    """Experiments, runs and a model registry, with what a migration may stumble over."""
    import mlflow
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.tracking import MlflowClient
    from mlflow.utils import validation

    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    root = "file:///srv/mlflow/artifacts"
    names = ["plain", "Ünïcode 🚀 experiment", "deleted", "PLAIN"]
    ids = [client.create_experiment(name, artifact_location=f"{root}/{n}") for n, name in enumerate(names)]
    client.set_experiment_tag(ids[0], "team", "vision")
    client.set_experiment_tag(ids[1], "mlflow.note.content", "# A note\n\nwith *Markdown* 🚀")
    for n, (experiment, status) in enumerate(
        [(ids[0], "FINISHED"), (ids[0], "KILLED"), (ids[1], "FAILED"), (ids[1], "RUNNING"), (ids[1], "SCHEDULED")]
    ):
        run = client.create_run(experiment, 1_700_000_000_000 + n, {"mlflow.user": "researcher"}, f"run {n} 🏃")
        run_id = run.info.run_id
        metrics = [Metric("loss", value, 1_700_000_000_000 + 1_000 * step, step) for step, value in enumerate(VALUES)]
        metrics += [Metric("loss", 0.5, 1_700_000_000_000, 0), Metric("time/zero", 1.5, 0, -3)]
        params = [Param(f"text {at}", text or "none") for at, text in enumerate(TEXTS)]
        tags = [RunTag(f"tag {at}", text) for at, text in enumerate(TEXTS)] + [RunTag("TAG 0", "another case")]
        client.log_batch(run_id, metrics, params, tags)
        if n == 0:
            most = getattr(validation, "MAX_PARAM_VAL_LENGTH", 500)
            client.log_param(run_id, "longest", "ä" * most)
            client.log_param(run_id, "k" * 250, "longest key")
            client.set_tag(run_id, "long", "x" * 4_990 + "🚀")
        if status not in ("RUNNING", "SCHEDULED"):
            client.set_terminated(run_id, status, end_time=1_700_000_100_000 + n)
        if n in (1, 2):
            client.delete_run(run_id)
    gone = client.create_run(ids[2], run_name="gone").info.run_id
    client.log_metric(gone, "lost", 1.0, timestamp=1, step=1)
    client.delete_experiment(ids[2])
    if not uri.startswith("file") or mlflow.__version__ > "2.1":  # before, a file store had no registry
        _registry(client, ids, root)
    _newer(client, mlflow, ids)


def _registry(client: object, ids: list, root: str) -> None:
    from mlflow.exceptions import MlflowException

    run = client.search_runs(ids[:1])[0].info.run_id
    client.create_registered_model("classifier", tags={"owner": "vision", "note": "żółć"}, description="The best one")
    client.create_registered_model("Classifier with blanks 🚀")
    client.create_registered_model("empty")
    for stage in ["Archived", "Production", "Staging", None]:
        version = client.create_model_version(
            "classifier", f"{root}/0/{run}/artifacts/model", run, tags={"stage": str(stage)}, description="x" * 40
        )
        if stage:
            client.transition_model_version_stage("classifier", version.version, stage)
    client.create_model_version("Classifier with blanks 🚀", "s3://bucket/model", None, run_link="https://ci/1")
    client.set_registered_model_tag("empty", "why", "")
    client.delete_model_version("classifier", "1")
    if hasattr(client, "set_registered_model_alias"):
        client.set_registered_model_alias("classifier", "champion", "2")
        client.set_registered_model_alias("classifier", "Challenger", "3")
    try:
        client.create_registered_model("classifier")
    except MlflowException:
        return
    raise AssertionError("two models of one name")


def _newer(client: object, mlflow: object, ids: list) -> None:
    """What later versions have: datasets (2.4) and traces (2.14)."""
    major, minor = (int(part) for part in mlflow.__version__.split(".")[:2])
    if (major, minor) >= (2, 4):
        from mlflow.entities import Dataset, DatasetInput, InputTag

        run = client.search_runs(ids[:1])[0].info.run_id
        dataset = Dataset("iris 🌸", "0123abcd", "local", '{"uri": "data.csv"}', '{"a": "long"}', '{"rows": 150}')
        client.log_inputs(run, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    if (major, minor) >= (2, 14):
        from mlflow.entities.trace_status import TraceStatus

        store = client._tracking_client.store
        trace = store.start_trace(ids[0], 1_700_000_000_123, {"mlflow.source": "made"}, {"mlflow.traceName": "a trace"})
        store.end_trace(
            trace.request_id, 1_700_000_000_456, TraceStatus.OK,
            {"mlflow.traceInputs": '{"q": "🚀"}'}, {"mlflow.traceName": "a trace", "kept": "yes"},
        )  # fmt: skip


def auth(path: Path) -> None:
    """An administrator and two users with permissions."""
    os.environ["MLFLOW_FLASK_SERVER_SECRET_KEY"] = "only for this"
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore()
    store.init_db(f"sqlite:///{path}")
    store.create_user("admin", "an administrator's password", is_admin=True)
    for name in ("reader", "Żaneta"):
        store.create_user(name, f"password of {name}")
    for experiment, name, permission in [("1", "reader", "READ"), ("1", "Żaneta", "MANAGE"), ("2", "Żaneta", "EDIT")]:
        _grant(store, "experiment", experiment, name, permission)
    none = "DENY" if hasattr(store, "grant_user_permission") else "NO_PERMISSIONS"
    for model, name, permission in [("classifier", "reader", "READ"), ("classifier", "Żaneta", none)]:
        _grant(store, "registered_model", model, name, permission)


def _grant(store: object, sort: str, which: str, name: str, permission: str) -> None:
    if hasattr(store, f"create_{sort}_permission"):
        getattr(store, f"create_{sort}_permission")(which, name, permission)
    else:
        store.grant_user_permission(name, sort, which, permission)


if __name__ == "__main__":
    _instead()
    kind, place = sys.argv[1], Path(sys.argv[2]).resolve()
    if kind == "auth":
        auth(place)
    elif kind == "files":
        tracking(place.as_uri())
    else:
        tracking(f"sqlite:///{place}")
