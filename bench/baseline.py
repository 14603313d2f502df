"""Runs that another run is set against: an earlier one, read from its folder."""

from pathlib import Path

from bench.errors import BadInput
from bench.results import Results, read


def load_run(path: Path) -> Results:
    """A finished or interrupted run that measured something; ``path`` is its folder or its results.json.

    Raises:
        BadInput: there is no such run, its file is not ours, or it measured nothing.
    """
    found = read(path.expanduser())
    if not any(cell.rounds for cell in found.cells):
        if found.faults:
            raise BadInput(f"{path}: this run has cells with faults only, which are not compared; name another run")
        how = "was interrupted before its first trial ended" if found.run.interrupted else "measured nothing"
        raise BadInput(f"{path}: this run {how}, so there is nothing to compare; name another run")
    return found


def load_baseline(path: str) -> Results:
    """The run that a scenario names as its ``baseline``; a relative path starts at the working directory.

    Call it before the run's own folder is made: ``results/latest`` would then be the run itself.

    Raises:
        BadInput: as for `load_run`.
    """
    try:
        return load_run(Path(path))
    except BadInput as error:
        raise BadInput(f"baseline = {path!r}: {error}") from error
