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
from bench.stores.url import StoreUrl

Stage = Literal["before", "copied", "moved"]
_SECRET: Final = "***"
_PLACES: Final = {
    "postgresql": "postgresql://mlflow:***@HOST:5432/mlflow",
    "timescaledb": "timescaledb://mlflow:***@HOST:5432/mlflow",
    "mysql": "mysql+pymysql://mlflow:***@HOST:3306/mlflow",
    "mariadb": "mysql+pymysql://mlflow:***@HOST:3306/mlflow",
}  # where only the kind of the target is known
_BACK: Final = "mlflow-back"
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


def cutover(
    source: Place, target: Place, also: Sequence[tuple[Place, Place]] = (), stage: Stage = "before"
) -> list[Act]:
    """From the source to the target: what to do in which order, and what to see before the next step.

    ``also`` are other databases of the deployment; ``stage`` is what the target holds: nothing yet, a copy that is
    marked as under way, or one that a migration has ended with.
    """
    every = [(source, target), *also]
    settings = [line for pair in every for one in pair for line in one.setting]
    return [
        *([Act(do="Tell the shell where the stores are.", commands=_once(settings))] if settings else []),
        *(_brought(source, target, copied=stage == "copied") if stage != "moved" else [_ended(source, target)]),
        *(
            Act(
                do="Move what belongs to the deployment beside its store.",
                commands=[f"trackbench migrate {ours.argument} {theirs.argument}"],
                watch="Exit code 0.",
            )
            for ours, theirs in also
        ),
        *_started(source, target, with_others=bool(also)),
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


def _started(source: Place, target: Place, *, with_others: bool) -> list[Act]:
    """From the copy to a server that users work with."""
    return [
        Act(
            do="Look at the target once more, if hours have passed since the readiness checks.",
            commands=[f"trackbench readiness {target.argument}"],
            watch="No check fails; a backup of the target is scheduled.",
        ),
        Act(
            do="Start MLflow on the target.",
            commands=target.server,
            watch="With authentication, database_uri in basic_auth.ini names the moved database as well."
            if with_others
            else "The log says nothing of migrations: the schema is at its revision already.",
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
            commands=_kept(source),
        ),
    ]


def rollback(source: Place, target: Place) -> list[Act]:
    """Back to the source: it was not touched, and what was written since is brought back into a new store."""
    back = _back(source)
    new = (
        f"{back.told} is new; the source stays as it was."
        if back.path is not None
        else "It is a new, empty database beside the source, which stays as it was."
    )
    return [
        Act(
            do="Stop MLflow on the target, so that nothing more is written.",
            commands=["systemctl stop mlflow  # or however your server is stopped"],
            watch=_QUIET[_family(target)],
        ),
        Act(
            do="In a hurry: start the old server on the untouched source. What was written since the cut-over is "
            "missing there, and safe in the target.",
            commands=[*_writable(source), *source.server],
        ),
        Act(
            do="Or take along what was written since: move the target back into a new store.",
            commands=_once([*target.setting, *back.setting, f"trackbench migrate {target.argument} {back.argument}"]),
            watch=f"It must end with “proved equal to the bit” and exit code 0. {new}",
        ),
        Act(
            do="Start the old kind of server on that.",
            commands=back.server,
            watch="Runs from before and after the cut-over are in the UI.",
        ),
        Act(do="Leave the target as it is until you know why you went back.", commands=[]),
    ]


def _back(source: Place) -> Place:
    """A new store of the source's kind; a file store can't be moved into, so that it becomes SQLite."""
    if source.path is not None:
        path = (source.path.parent if source.path.suffix or source.path.name == "mlruns" else source.path) / _BACK
        return place(StoreUrl("sqlite", path=path.with_suffix(".db")), "")
    assert source.url is not None
    return place(replace(source.url, database=f"{source.url.database}_back"), "BACK_URL")


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
