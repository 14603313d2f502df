"""How to carry a move out, and how to go back: numbered steps with the commands for this very source and target.

Commands hold no password: a URL with one is read from the environment, where its owner puts it.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from bench.decision_record import Act
from bench.stores.schema import mlflow_version
from bench.stores.url import StoreUrl

Stage = Literal["before", "copied", "moved"]
_SECRET: Final = "***"
_PLACES: Final = {
    "postgresql": "postgresql://mlflow:***@HOST:5432/mlflow",
    "timescaledb": "timescaledb://mlflow:***@HOST:5432/mlflow",
    "mysql": "mysql+pymysql://mlflow:***@HOST:3306/mlflow",
    "mariadb": "mysql+pymysql://mlflow:***@HOST:3306/mlflow",
}  # where only the kind of the target is known
_BACK: Final = "mlflow-back.db"  # what a file store comes back as
_REGISTRY: Final = "MLFLOW_REGISTRY_STORE_URI"
_OPTIONS: Final = "  # and the other options that it has now"


@dataclass(frozen=True)
class Place:
    """A store as commands name it: ``told`` to Trackbench, ``mlflow`` to MLflow, both without a password.

    ``variable`` is the environment's variable that Trackbench reads, where the URL has a password. ``url`` is None of a
    file store, and of a scratch server, whose kind alone is known.
    """

    told: str
    mlflow: str
    store: str
    path: Path | None = None
    variable: str = ""
    url: StoreUrl | None = None

    @property
    def argument(self) -> str:
        """What is given to Trackbench's commands."""
        return f"env:{self.variable}" if self.variable else shlex.quote(self.told)

    @property
    def setting(self) -> list[str]:
        """The command that sets the variable, where one is needed."""
        if not self.variable:
            return []
        return [f"export {self.variable}={shlex.quote(self.told)}{_hint(self.told)}"]

    @property
    def server(self) -> list[str]:
        """The commands that start MLflow on it; a password stays out of the list of processes."""
        if self.path is not None:
            return [f"mlflow server --backend-store-uri {shlex.quote(self.mlflow)}{_OPTIONS}"]
        return [
            f"export MLFLOW_BACKEND_STORE_URI={shlex.quote(self.mlflow)}{_hint(self.mlflow)}",
            f"mlflow server{_OPTIONS}",
        ]


def place(url: StoreUrl | Path | str, variable: str) -> Place:
    """A store's URL, the folder of a file store, or the kind of a scratch server, as commands name it.

    ``variable`` is what the user reads the URL from, or a name for it if it has a password.
    """
    if isinstance(url, Path):
        return Place(str(url), str(url), "file", url)
    if isinstance(url, str):
        told = _PLACES[url]
        mlflow = told.replace("timescaledb", "postgresql")
        return Place(told, mlflow, url, variable=variable)
    if url.path is not None:
        return Place(str(url), url.mlflow, "sqlite", url.path, url=url)
    hidden = replace(url, password=_SECRET if url.password else "")
    return Place(str(url), hidden.mlflow, url.store, variable=variable if url.password else "", url=url)


@dataclass(frozen=True)
class Other:
    """Another database of the deployment, and where it goes; ``family`` as its move found it, empty before."""

    source: Place
    target: Place
    family: str = ""


def cutover(
    source: Place,
    target: Place,
    also: Sequence[Other] = (),
    stage: Stage = "before",
    upgraded_from: str | None = None,
) -> list[Act]:
    """From the source to the target: what to do in which order, and what to see before the next step.

    ``also`` are other databases of the deployment; ``stage`` is what the target holds: nothing yet, a copy that is
    marked as under way, or one that a migration has ended with. ``upgraded_from`` is the revision of a source that was
    older than the copy: MLflow has to be upgraded with it.
    """
    every = [source, target, *(one for other in also for one in (other.source, other.target))]
    settings = [line for one in every for line in one.setting]
    return [
        *([Act(do="Tell the shell where the stores are.", commands=_once(settings))] if settings else []),
        *(_brought(source, target, copied=stage == "copied") if stage != "moved" else [_ended(source, target)]),
        *(
            Act(
                do="Move what belongs to the deployment beside its store.",
                commands=[f"trackbench migrate {other.source.argument} {other.target.argument}"],
                watch="Exit code 0.",
            )
            for other in also
        ),
        *_started(source, target, also, newer=_newer(source, upgraded_from)),
    ]


def _ended(source: Place, target: Place) -> Act:
    return Act(
        do="Stop all writers of the source, if any is left; see that it is still what was copied.",
        commands=[f"trackbench verify {source.argument} {target.argument}"],
        watch="Exit code 0. With 4 the source has gained something since: begin again in an empty database, with "
        "`trackbench migrate --follow`.",
    )


def _brought(source: Place, target: Place, *, copied: bool) -> list[Act]:
    """Until the target holds all, and the source is still."""
    return [
        Act(
            do="Follow what MLflow writes, from the copy that is there." if copied else "Copy while MLflow goes on.",
            commands=[f"trackbench migrate --follow {source.argument} {target.argument}"],
            watch="Each pass copies what the source gained since the last one. Go on when one takes seconds."
            + (" Until then nobody may use the target: what the source lacks is removed there." if copied else ""),
        ),
        Act(
            do="Stop all writers: the MLflow server, and whatever writes into the store beside it.",
            commands=["systemctl stop mlflow  # or however your server is stopped", *_quiet(source)],
            watch=_QUIET[_family(source)],
        ),
        Act(
            do="Let the last pass run, and the proof: press Enter in the command above, or send it SIGUSR1.",
            watch="It must end with “proved equal to the bit” and exit code 0. With 4 the stores differ: start the old "
            "server again, nothing was changed there.",
        ),
    ]


def _newer(source: Place, upgraded_from: str | None) -> bool:
    """Whether the copy may want a newer MLflow than the source's; which one wrote a file store, it does not say."""
    return upgraded_from is not None or source.store == "file"


def _started(source: Place, target: Place, also: Sequence[Other], *, newer: bool) -> list[Act]:
    """From the copy to a server that users work with."""
    return [
        Act(
            do="Look at the target once more, if hours have passed since the readiness checks.",
            commands=[f"trackbench readiness {target.argument}"],
            watch="No check fails; a backup of the target is scheduled.",
        ),
        *([_installed()] if newer else []),
        Act(
            do="Start MLflow on the target.",
            commands=[*(_told(other.target, other.family) for other in also), *target.server],
            watch="The log says nothing of migrations: the schema is at its revision already.",
        ),
        Act(
            do="Look before you let users in.",
            commands=["curl -fsS http://127.0.0.1:5000/health  # your server's own address"],
            watch="The newest runs are in the UI, a metric's curve opens, a test run logs and is found.",
        ),
        Act(
            do="Watch it for a day.",
            commands=_watched(target),
            watch="Locks waited for, connections against the limit, slow statements, growth: the queries and alert "
            "rules in docs/operations.md.",
        ),
        Act(
            do="Keep the source as it is until going back is out of the question.",
            commands=[line for one in (source, *(other.source for other in also)) for line in _kept(one)],
        ),
    ]


def _installed() -> Act:
    version = mlflow_version()
    return Act(
        do=f"Install MLflow {version} or newer on the server, and for clients that open the store themselves: the copy "
        "has its schema, which an older MLflow refuses.",
        commands=[f"pip install 'mlflow>={version}'  # wherever MLflow is installed"],
        watch=f"`mlflow --version` says {version} or newer.",
    )


def _told(one: Place, family: str) -> str:
    """What tells MLflow of a database beside its store."""
    if family == "tracking store":
        return f"export {_REGISTRY}={shlex.quote(one.mlflow)}{_hint(one.mlflow)}"
    setting = f"database_uri = {one.mlflow.replace('%', '%%')}{_hint(one.mlflow)}"  # the file doubles each %
    if family == "authentication database":
        return f"# in basic_auth.ini: {setting}"
    return f"# if it is the authentication database, in basic_auth.ini: {setting}; a registry's goes into {_REGISTRY}"


def rollback(source: Place, target: Place, also: Sequence[Other] = (), upgraded_from: str | None = None) -> list[Act]:
    """Back to the source: it was not touched, and what was written since is brought back into a new store.

    ``also`` and ``upgraded_from`` are as for `cutover`.
    """
    back = _back(source)
    backs = [_back(other.source, f"ALSO_{number}_BACK") for number, other in enumerate(also, start=1)]
    pairs = [(target, back), *((other.target, one) for other, one in zip(also, backs, strict=True))]
    new = (
        f"{back.told} is new; the source stays as it was."
        if back.path is not None
        else "It is a new, empty database beside the source, which stays as it was."
    )
    newer = _newer(source, upgraded_from)
    return [
        Act(
            do="Stop MLflow on the target, so that nothing more is written.",
            commands=["systemctl stop mlflow  # or however your server is stopped"],
            watch=_QUIET[_family(target)],
        ),
        Act(
            do="In a hurry: start the old server on the untouched source. What was written since the cut-over is "
            "missing there, and safe in the target."
            + (" Only this store works with the MLflow that it had before." if newer else ""),
            commands=[
                *(line for one in (source, *(other.source for other in also)) for line in _writable(one)),
                *(_told(other.source, other.family) for other in also),
                *source.server,
            ],
        ),
        Act(
            do="Or take along what was written since: move the target back into a new store.",
            commands=_once(
                [
                    *(line for pair in pairs for one in pair for line in one.setting),
                    *(f"trackbench migrate {there.argument} {here.argument}" for there, here in pairs),
                ]
            ),
            watch=f"{'Each' if also else 'It'} must end with “proved equal to the bit” and exit code 0. {new}",
        ),
        Act(
            do="Start the old kind of server on that"
            + (f", with MLflow {mlflow_version()} or newer: it has the schema of the target." if newer else "."),
            commands=[
                *(_told(one, other.family) for other, one in zip(also, backs, strict=True)),
                *back.server,
            ],
            watch="Runs from before and after the cut-over are in the UI.",
        ),
        Act(do="Leave the target as it is until you know why you went back.", commands=[]),
    ]


def _back(source: Place, variable: str = "BACK_URL") -> Place:
    """A new store of the source's kind; a file store can't be moved into, so that it becomes SQLite."""
    if source.path is not None:
        path = source.path
        if source.store == "file":
            beside = (path.parent if path.name == "mlruns" else path) / _BACK
        else:
            beside = path.with_name(f"{path.stem}-back{path.suffix}")  # unlike that of another file beside it
        return place(StoreUrl("sqlite", path=beside), "")
    assert source.url is not None
    return place(replace(source.url, database=f"{source.url.database}_back"), variable)


def _family(one: Place) -> str:
    return {"timescaledb": "postgresql", "mariadb": "mysql"}.get(one.store, one.store)


_QUIET: Final = {
    "sqlite": "No process has the file open any more.",
    "file": "No process writes below the folder any more.",
    "postgresql": "Nobody but you is connected to the database.",
    "mysql": "Nobody but you is connected to the database.",
}


def _quiet(one: Place) -> list[str]:
    """What shows that nobody writes any more."""
    if one.path is not None:
        return [f"fuser {shlex.quote(str(one.path))}  # prints nothing"] if one.store == "sqlite" else []
    return _watched(one)


def _watched(one: Place) -> list[str]:
    """The query that shows who is connected and what waits."""
    if one.path is not None:
        return []
    if _family(one) == "mysql":
        return ["SELECT id, user, command, time, state FROM information_schema.processlist;"]
    return [
        "SELECT pid, usename, state, wait_event_type, now() - xact_start AS since "
        "FROM pg_stat_activity WHERE datname = current_database();"
    ]


def _kept(source: Place) -> list[str]:
    """What keeps a forgotten client from writing into the source's files."""
    if source.path is None:
        return []
    return [f"chmod {'-R ' if source.store == 'file' else ''}a-w {shlex.quote(str(source.path))}"]


def _writable(source: Place) -> list[str]:
    return [command.replace("a-w", "u+w", 1) for command in _kept(source)]


def _hint(text: str) -> str:
    if _SECRET not in text:
        return ""
    where = " and the address" if "@HOST" in text else ""
    return f"  # put in the password{where}"


def _once(lines: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(lines))
