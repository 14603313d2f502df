"""What `bench.migrate.artifacts` asks, in the process that has MLflow imported."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from operator import methodcaller
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final
from urllib.parse import urlsplit

from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from bench.migrate.client_view import LOGGED_MODELS, RUNS, VERSIONS, Opened
from bench.migrate.frozen import first_line
from bench.stores.url import hide_password

_SECONDS: Final = 10.0  # an address has to answer
_FETCHED_BYTES: Final = 1_000_000
_DEPTH: Final = 4  # folders below an address in which a file is looked for
_NEEDS_SERVER: Final = ("mlflow-artifacts:", "only an MLflow server resolves it: give the server's URL")
_MODEL: Final = "models:/"  # before the id of a logged model, which has an address of its own
Seen = tuple[str, str]


def look(target: Opened, most: int, server: str | None, folder: Path) -> list[dict[str, str]]:
    """The fields of each `ArtifactLook`."""
    silent = set[str]()  # hosts that did not answer
    looks = list[dict[str, str]]()
    for what, uri in _addresses(target, most):
        parts = urlsplit(uri)
        host = f"{parts.scheme}://{parts.hostname}" if parts.hostname else ""
        if host in silent:
            found, said = "not reachable from here", "its host did not answer before"
        else:
            found, said = _within(uri, server, folder / str(len(looks)))
            if found == "not reachable from here" and host:
                silent.add(host)
        looks.append({"what": what, "uri": _shown(uri), "found": found, "said": _shown(said)})
    return looks


def _shown(text: str) -> str:
    """``text`` without the logins and queries of the URLs in it: a query may be a signature."""
    return re.sub(r"[\w+.-]+://[^\s'\"]+", lambda found: hide_password(found[0]), text)


def _addresses(target: Opened, most: int) -> Iterator[tuple[str, str]]:
    for workspace, run in target.chosen(RUNS.format(stage="active"), most):
        yield from _of(target, workspace, f"run {run}", methodcaller("get_run", run), "info", "artifact_uri")
    for workspace, name, version in target.chosen(VERSIONS, most):
        get = methodcaller("get_model_version_download_uri", name, str(version))
        yield from _of(target, workspace, f"model version {name} {version}", get)
    for workspace, model in target.chosen(LOGGED_MODELS, most):
        get = methodcaller("get_logged_model", model)
        yield from _of(target, workspace, f"logged model {model}", get, "artifact_location")


def _of(target: Opened, workspace: str, what: str, get: Any, *within: str) -> Iterator[tuple[str, str]]:
    """The address that is found by these names within what ``get`` gives; nothing where MLflow has none."""
    had, value = target.read(workspace, get).result()
    for name in within:
        value = value.get(name) if isinstance(value, dict) else None
    if had and isinstance(value, str) and value.startswith(_MODEL):
        get = methodcaller("get_logged_model", value.removeprefix(_MODEL))
        yield from _of(target, workspace, what, get, "artifact_location")
    elif had and isinstance(value, str) and value:
        yield what, value


def _within(uri: str, server: str | None, folder: Path) -> Seen:
    """What is there, told in time; a client that never ends is left behind, and ends with this process."""
    scheme, advice = _NEEDS_SERVER
    if uri.startswith(scheme) and server is None:
        return "not reachable from here", advice
    answers: SimpleQueue[Seen] = SimpleQueue()
    threading.Thread(target=lambda: answers.put(_seen(uri, server, folder)), daemon=True).start()
    try:
        return answers.get(timeout=_SECONDS)
    except Empty:
        return "not reachable from here", f"no answer within {_SECONDS:.0f} s"


def _seen(uri: str, server: str | None, folder: Path) -> Seen:
    try:
        repository = get_artifact_repository(uri, tracking_uri=server)
        entries = repository.list_artifacts()
        if not entries:
            return "nothing there", _why_nothing(getattr(repository, "artifact_dir", None))
        file = _small_file(repository, entries, _DEPTH)
        if file is None:
            return "listed", f"{len(entries)} entries, among them no file of at most 1 MB"
        folder.mkdir()
        size = Path(repository.download_artifacts(file, str(folder))).stat().st_size
    except Exception as error:  # whatever a cloud's client raises, or the import of one that is not installed
        return "not reachable from here", first_line(error)
    return "fetched", f"{len(entries)} entries; {file}, {size} bytes"


def _why_nothing(local: str | None) -> str:
    if local is None:
        return "no entries"
    return "an empty folder" if Path(local).is_dir() else f"no folder {local} on this machine"


def _small_file(repository: Any, entries: list[Any], depth: int) -> str | None:
    """The first file, folder after folder, that is small enough to be fetched."""
    for entry in sorted(entries, key=lambda one: (one.is_dir, one.path)):
        if not entry.is_dir:
            if entry.file_size is not None and entry.file_size <= _FETCHED_BYTES:
                return str(entry.path)
        elif depth and (found := _small_file(repository, repository.list_artifacts(entry.path), depth - 1)):
            return found
    return None
