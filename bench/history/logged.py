"""A run into a tracking store: experiment, run, params, metrics, tags and the files of its report."""

import re
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from bench.errors import BadInput
from bench.history import store
from bench.history.record import LOGGED, RUN_ID, SCENARIO, Record, record
from bench.results import Results
from bench.stores.url import hide_password

FILES: Final = ("report.html", "report.md", "results.json", "junit.xml")
_SEARCHABLE: Final = re.compile(r"[\w.:-]+", re.ASCII)


def check(uri: str) -> None:
    """See that ``uri`` is a tracking store that can be used, soon and without writing to it.

    Raises:
        BadInput: it is not; the message never repeats a password.
    """
    store.check(store.address(uri))


def track(results: Results, folder: Path, uri: str) -> str:
    """Log a run and its report into a tracking store, once; returns what there is to say, a line each.

    ``folder`` holds the report. Files that can't be kept there are told and cost nothing else. A run that was logged
    before is left as it is; one that was cut short while it was logged is completed.

    Raises:
        BadInput: the store can't be used or refuses; the message never repeats a password.
    """
    to = store.address(uri)
    store.check(to)
    whole = record(results)
    with store.client(to) as client:
        experiment = _experiment(client, to, whole, folder)
        run = find(client, experiment, whole.run_id)
        if run is not None and LOGGED in run.data.tags:
            return f"tracked already: {_where(to, experiment, run, whole)}"
        if run is None:
            run = client.create_run(experiment, start_time=whole.started, tags=whole.tags, run_name=whole.name)
        _log(client, run.info.run_id, whole)
        notes = _keep_files(client, to, run, folder)
        status = "KILLED" if whole.interrupted else "FINISHED"
        client.set_terminated(run.info.run_id, status=status, end_time=whole.ended)
        client.set_tag(run.info.run_id, LOGGED, "whole")
        return "\n".join([f"tracked: {_where(to, experiment, run, whole)}", *notes])


def told(results: Results, folder: Path, uri: str) -> str:
    """As `track`, for the end of a run, whose results no tracking store may cost: an error is what there is to say."""
    try:
        return track(results, folder, uri)
    except BadInput as error:
        return f"not tracked: {error}\nThe run is kept; `trackbench history --track URI --add {folder}` logs it later."


def find(client: Any, experiment: str, run_id: str) -> Any | None:
    """MLflow's run of our run, or None."""
    wanted = f"tags.`{RUN_ID}` = '{run_id}'" if _SEARCHABLE.fullmatch(run_id) else ""
    token = None
    while True:
        page = client.search_runs([experiment], wanted, page_token=token)
        for run in page:
            if run.data.tags.get(RUN_ID) == run_id:
                return run
        if not (token := page.token):
            return None


def _experiment(client: Any, to: store.Address, whole: Record, folder: Path) -> str:
    """The id of the scenario's experiment, made if there is none."""
    found = client.get_experiment_by_name(whole.experiment)
    if found is None:
        tags = {SCENARIO: whole.params["scenario"]}
        return str(client.create_experiment(whole.experiment, _artifacts(to, whole, folder), tags))
    if found.lifecycle_stage != "active":
        raise BadInput(
            f"--track {to}: experiment {whole.experiment!r} was deleted there; restore it, or remove it for good "
            "with `mlflow gc`"
        )
    return str(found.experiment_id)


def _artifacts(to: store.Address, whole: Record, folder: Path) -> str | None:
    """Where a new experiment keeps files: beside the database, since MLflow would take any current folder."""
    beside = {"sqlite": to.path, "database": folder.absolute()}.get(to.kind)
    return (beside.parent / "mlruns" / whole.experiment.replace("/", "-")).as_uri() if beside else None


def _log(client: Any, run: str, whole: Record) -> None:
    from mlflow.entities import Metric, Param, RunTag

    client.log_batch(
        run,
        metrics=[Metric(name, value, whole.ended, 0) for name, value in whole.metrics.items()],
        params=[Param(name, value) for name, value in whole.params.items()],
        tags=[RunTag(name, value) for name, value in whole.tags.items()],
    )


def _keep_files(client: Any, to: store.Address, run: Any, folder: Path) -> list[str]:
    """Log the report's files; what could not be kept and why."""
    root = run.info.artifact_uri or ""
    is_local = urlsplit(root).scheme in ("", "file")
    if to.kind == "http" and is_local and not to.is_here:
        return ["The report was not logged: that server keeps files in a folder of its own machine."]
    for name in FILES:
        try:
            client.log_artifact(run.info.run_id, str(folder / name))
        except Exception as error:  # each kind of artifact store has errors of its own, and may lack its library
            return [f"The report was not logged: {hide_password(root)} can't be used ({type(error).__name__})."]
    if to.kind == "database" and is_local:
        return ["The report's files are on this machine; log through an MLflow server to keep them with the database."]
    return []


def _where(to: store.Address, experiment: str, run: Any, whole: Record) -> str:
    if to.kind == "http":
        return f"{to}/#/experiments/{experiment}/runs/{run.info.run_id}"
    return f"{to}, experiment {whole.experiment}, run {whole.name}"
