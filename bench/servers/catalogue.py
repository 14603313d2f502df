"""All sources in the order in which they are tried, and the three things callers want of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from bench.errors import BadInput
from bench.servers import places
from bench.servers.base import KINDS, CannotInstall, Echo, Kind, Offer, ServerFailed, Source
from bench.servers.compose import ComposeSource
from bench.servers.path import PathSource
from bench.servers.prefix import PrefixSource
from bench.servers.running import RunningServer
from bench.servers.small_disk import small_disks
from bench.servers.wheel import WheelSource

_PREFIX, _WHEEL, _PATH = PrefixSource(), WheelSource(), PathSource()
SOURCES: tuple[Source, ...] = (ComposeSource(), _PREFIX, _WHEEL, _PATH)
_FALLBACKS: Mapping[Kind, Kind] = {"mysql": "mariadb"}


def _silent(_line: str) -> None:
    """Say nothing."""


def offers(kinds: Iterable[Kind] | None = None) -> list[Offer]:
    """What every source has for each kind, in the order in which they would be tried."""
    found = []
    for kind in KINDS if kinds is None else kinds:
        found += [offer for source in SOURCES if (offer := source.offer(kind)) is not None]
    return found


def install(kind: Kind, echo: Echo = _silent) -> Offer:
    """Make `kind` ready from the first source that can; says so if it had to be MariaDB in place of MySQL."""
    return _get(kind, echo)[1]


def start(
    kind: Kind,
    settings: Mapping[str, str] | None = None,
    echo: Echo = _silent,
    folder: Path | None = None,
    disk_mb: int | None = None,
) -> RunningServer:
    """Start a private server of `kind`, installed first if need be; returns when one can log in to it.

    `folder` must not exist yet and is removed by `stop()`. The server's `kind` tells what it really is.
    With `disk_mb` its data are on a disk of their own, of that many MiB, in memory (see `SMALL_DISK_MB` for sizes
    that do): `fill()` fills it. Raises ServerFailed where that can't be had.
    """
    if disk_mb is not None and (reason := small_disks()) is not None:
        raise ServerFailed(f"{kind} on a small disk: {reason}")
    source, offer = _get(kind, echo)
    if folder is not None and folder.exists():
        raise BadInput(f"{folder} exists: a server needs a folder of its own, which it removes in the end")
    if folder is None:
        folder = places.new_folder(offer.kind)
    return source.start(offer.kind, folder.absolute(), settings or {}, disk_mb)


def tool(name: str) -> Path | None:
    """A client program such as `pgbench`, `psql` or `mysqlslap`: of ours first, then on PATH."""
    for source in (_PREFIX, _WHEEL, _PATH):
        for folder in source.tool_folders():
            if (folder / name).is_file():
                return folder / name
    found = shutil.which(name)
    return Path(found) if found else None


def _get(kind: Kind, echo: Echo) -> tuple[Source, Offer]:
    """The first source that is ready for `kind` or can be made so, in the sources' order."""
    reasons = []
    for source in SOURCES:
        offer = source.offer(kind)
        if offer is None:
            continue
        if not offer.ready and offer.remedy is not None:
            try:
                source.install(kind, echo)
            except CannotInstall as error:
                echo(str(error))
                reasons.append(str(error))
                continue
            offer = source.offer(kind)
        if offer is not None and offer.ready:
            return source, offer
        if offer is not None:
            reasons.append(offer.detail)
    fallback = _FALLBACKS.get(kind)
    if fallback is None:
        raise CannotInstall(f"no {kind} server can be had here: {'; '.join(reasons) or 'no source has one'}")
    echo(f"{kind} can't be had here: MariaDB takes its place, and is called MariaDB in all results")
    return _get(fallback, echo)
