"""Source: server binaries that the system has already, on PATH or where distributions put them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from bench.servers import engines, places
from bench.servers.base import CannotInstall, Echo, Kind, Offer, binary_version, output_of
from bench.servers.engines import Programs
from bench.servers.running import RunningServer

_SBIN = "/usr/local/sbin:/usr/sbin"  # plain users often lack it


class PathSource:
    """Servers of the system's own."""

    name = "path"

    def offer(self, kind: Kind) -> Offer | None:
        """See `Source`."""
        programs = _find(kind)
        if programs is None:
            return None
        detail = f"on PATH: {programs.server}"
        if not places.reachable(programs.folder):
            why = f"{detail}, where root's servers can't reach it"
            return Offer(kind, self.name, False, None, why, None)
        return Offer(kind, self.name, True, binary_version(programs.server), detail, None)

    def install(self, kind: Kind, echo: Echo) -> None:
        """Nothing to fetch: it is there or it is not."""
        offer = self.offer(kind)
        if offer is None or not offer.ready:
            raise CannotInstall(f"{kind}: {offer.detail if offer else 'no server program on PATH'}")
        echo(f"{kind}: {offer.detail}")

    def start(self, kind: Kind, folder: Path, settings: Mapping[str, str], disk_mb: int | None = None) -> RunningServer:
        """See `Source`."""
        programs = _find(kind)
        if programs is None:
            raise CannotInstall(f"{kind}: no server program on PATH")
        return engines.start(self.name, programs, folder, settings, disk_mb)

    def tool_folders(self) -> Iterable[Path]:
        """Where the client programs of the system's PostgreSQL lie, which Debian keeps off PATH."""
        server = _which("postgres")
        return [server.parent] if server else []


def _which(name: str) -> Path | None:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_SBIN}")
    if found is None and name == "postgres":
        versions = Path("/usr/lib/postgresql").glob("*/bin/postgres")
        return max(versions, key=lambda path: int(path.parts[-3]), default=None)
    return Path(found).resolve() if found else None


def _find(kind: Kind) -> Programs | None:
    """The server program of `kind`, and never one of another kind under its name."""
    if kind in ("postgresql", "timescaledb"):
        server = _which("postgres")
        if server is None or not (server.parent / "initdb").exists():
            return None
        return Programs(kind, server) if kind == "postgresql" or _has_timescaledb(server) else None
    for name in ("mysqld",) if kind == "mysql" else ("mariadbd", "mysqld"):
        server = _which(name)
        if server is not None:
            is_mariadb = "mariadb" in (binary_version(server) or "").lower()
            if is_mariadb == (kind == "mariadb"):
                return Programs(kind, server)
    return None


def _has_timescaledb(server: Path) -> bool:
    libraries = output_of([server.parent / "pg_config", "--pkglibdir"])
    candidates = [Path(libraries)] if libraries else []
    candidates.append(server.parent.parent / "lib")
    return any((folder / "timescaledb.so").exists() for folder in candidates)
