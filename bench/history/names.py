"""What a run is called in MLflow: experiment, metrics and params, by rules that keep names stable and apart.

MLflow allows letters, digits, ``_ - . : /`` and spaces in a key, 250 characters, and no key that reads as another path.
A file store makes folders of the slashes, and a MySQL store does not tell ``PG`` from ``pg``. A scenario's names may
hold anything. So each part of a key is either plain (see `part`) and stays as it is, or it ends with a hash of the
whole name, which no plain part does.
"""

import hashlib
import re
from typing import Final, NamedTuple

from bench.cell import CLOSED

PREFIX: Final = "trackbench/"
RUN: Final = "run"
"""The first part of what belongs to the whole run; a candidate of that name is hashed."""
_PLAIN: Final = re.compile(r"(?!\.)[a-z0-9_.-]{1,40}", re.ASCII)
_HASHED: Final = re.compile(r".*-[0-9a-f]{8}", re.ASCII)
_MOST: Final = 40
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_LOAD: Final = re.compile(r"(\d+(?:\.\d+)?(?:e[+-]?\d{1,2})?)( %|/s)", re.ASCII)  # as bench.scenario labels loads


class Place(NamedTuple):
    """A cell without its run, each part as it stands in a key; ``load`` as in `bench.results.Cell`."""

    candidate: str
    driver: str
    workload: str
    concurrency: int
    load: str = CLOSED

    def __str__(self) -> str:
        """As people name it: ``postgresql http log_metric 20``, with the load of an open loop behind it."""
        said = f"{self.candidate} {self.driver} {self.workload} {self.concurrency}"
        return said if self.load == CLOSED else f"{said} {self.load}"


def part(name: str) -> str:
    """``name`` as one part of a key: itself if it is plain, else what is plain of it and a hash of the whole.

    Plain are up to 40 small letters, digits, ``_``, ``-`` and ``.``, not beginning with a dot, and not ending as a hash
    does.
    """
    if _PLAIN.fullmatch(name) and not _HASHED.fullmatch(name) and name != RUN:
        return name
    kept = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")[:_MOST]
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{kept}-{digest}" if kept else f"x-{digest}"


def experiment(scenario: str) -> str:
    """The experiment that holds a scenario's runs."""
    return PREFIX + part(scenario)


def metric(place: Place, figure: str) -> str:
    """The metric of a cell's figure: ``postgresql/http/log_metric/20/p99_ms``, or ``…/20/80pct/p99_ms``."""
    names = [part(place.candidate), part(place.driver), part(place.workload), str(place.concurrency)]
    if place.load != CLOSED:
        names.append(_load_part(place.load))
    return "/".join([*names, part(figure)])


def read_metric(key: str) -> tuple[Place, str] | None:
    """The cell and figure of a metric, parts as they stand in the key; None if it is not of a cell."""
    names = key.split("/")
    if len(names) not in (5, 6) or not names[3].isascii() or not names[3].isdigit():
        return None
    candidate, driver, workload, concurrency, *load, figure = names
    return Place(candidate, driver, workload, int(concurrency), _load(load[0]) if load else CLOSED), figure


def condition(name: str) -> str:
    """The param of a condition, ``postgresql: setting fsync``: ``condition/postgresql/setting_fsync``."""
    subject, _, what = name.rpartition(": ")
    return "/".join(["condition", *(part("_".join(each.split())) for each in (subject, what) if each)])


def _load_part(load: str) -> str:
    found = _LOAD.fullmatch(load)
    if not found:
        return part(load)
    number = f"{float(found[1]):.12f}".rstrip("0").rstrip(".")
    return number + ("pct" if found[2] == " %" else "_per_s")


def _load(named: str) -> str:
    for ending, unit in (("pct", " %"), ("_per_s", "/s")):
        number = named.removesuffix(ending)
        if number != named and _NUMBER.fullmatch(number):
            return f"{float(number):g}{unit}"
    return named
