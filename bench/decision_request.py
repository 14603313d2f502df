"""What is asked of a run that moves a store: from where, to where, and what else belongs to the deployment."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.decision_record import Act
from bench.decision_steps import Place, cutover, place, rollback
from bench.errors import BadInput
from bench.stores import NAMES
from bench.stores.url import StoreUrl, from_environment, parse

_PAIR: Final = re.compile(r"(?P<source>.+)=(?P<target>(?:env:|[a-z0-9]+(?:\+[a-z0-9]+)?://).+)", re.DOTALL)
_VARIABLE: Final = "env:"


@dataclass(frozen=True)
class Named:
    """A store as the user named it: ``given`` with its password, as `bench.migrate.sources` takes it.

    ``kind`` is the store's, and all that is known of a private server of ours, which has no ``url``. ``variable`` is
    what the user reads the URL from, or a name for it.
    """

    kind: str
    given: str = field(repr=False)
    url: StoreUrl | None
    variable: str

    @property
    def place(self) -> Place:
        """As the commands of a cut-over name it."""
        if self.url is not None:
            return place(self.url, self.variable)
        return place(self.kind if self.kind in NAMES else Path(self.given).absolute(), self.variable)

    def __str__(self) -> str:
        return self.kind if self.kind in NAMES and self.url is None else self.place.told


class Stopped(Exception):
    """A store can't be moved, or its copy is not equal: nothing more is tried, and the record says why."""


@dataclass(frozen=True)
class Wanted:
    """A move: ``also`` are other databases of the deployment, each with its own target."""

    source: Named
    target: Named
    also: tuple[tuple[Named, Named], ...] = ()

    @property
    def scratch(self) -> bool:
        """Whether the target is a private server of ours."""
        return self.target.url is None


def wanted(source: str | None, target: str | None, also: Sequence[str]) -> Wanted | None:
    """What ``--source``, ``--target`` and ``--also`` ask for; None where no store is to be moved.

    Raises:
        BadInput: one without the other, or not a store.
    """
    if source is None and target is None and not also:
        return None
    if source is None:
        raise BadInput("--target: says where a store is to be moved; give the store as well, as --source URL")
    if target is None:
        raise BadInput("--source: is to be moved; say where to: --target URL, or --target postgresql for a rehearsal")
    return Wanted(
        _source(source, "--source", "SOURCE_URL"),
        _target(target),
        tuple(_pair(one, number) for number, one in enumerate(also, start=1)),
    )


def _source(text: str, option: str, variable: str) -> Named:
    """A source may be a file store's folder too, which is no URL."""
    given = from_environment(option, text)
    variable = text.removeprefix(_VARIABLE) if text.startswith(_VARIABLE) else variable
    if "://" not in given:
        if not Path(given).is_dir():
            raise BadInput(f"{option} {given}: no such folder; give a store's URL, as in sqlite:///mlflow.db")
        return Named("file", given, None, variable)
    if given.startswith("file://"):
        return _source(given.removeprefix("file://"), option, variable)
    url = parse(given)
    return Named(url.store, given, url, variable)


def _target(text: str) -> Named:
    if text in NAMES:
        if text == "sqlite":
            raise BadInput("--target sqlite: is a file, not a server; name it, as in --target sqlite:///new.db")
        return Named(text, "", None, "TARGET_URL")
    return _url(text, "--target", "TARGET_URL")


def _url(text: str, option: str, variable: str) -> Named:
    given = from_environment(option, text)
    if "://" not in given:
        raise BadInput(f"{option}: wants a URL, or one of {', '.join(NAMES[1:])} for a private server of ours")
    url = parse(given)
    return Named(url.store, given, url, text.removeprefix(_VARIABLE) if text.startswith(_VARIABLE) else variable)


def _pair(text: str, number: int) -> tuple[Named, Named]:
    found = _PAIR.fullmatch(text)
    if found is None:
        raise BadInput("--also: wants SOURCE=TARGET, as in --also sqlite:///basic_auth.db=postgresql://…/auth")
    return (
        _source(found["source"], "--also", f"ALSO_{number}_SOURCE"),
        _url(found["target"], "--also", f"ALSO_{number}_TARGET"),
    )


def steps_after(source: str, target: str, upgraded_from: str | None = None) -> tuple[list[Act], list[Act]]:
    """Cut-over and roll-back once a migration has ended; both stores as the user named them on the command line.

    ``upgraded_from`` is the revision of a source that was upgraded on the way.
    """
    found = wanted(source, target, ())
    assert found is not None
    here, there = found.source.place, found.target.place
    acts = cutover(here, there, stage="moved", upgraded_from=upgraded_from)
    return acts, rollback(here, there, upgraded_from=upgraded_from)
