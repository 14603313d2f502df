"""Servers with TLS, and URLs that want it verified."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from certificates import Issued, issue

from bench import servers
from bench.servers import Kind, RunningServer, databases, places
from bench.stores.url import StoreUrl, parse


@dataclass(frozen=True)
class Secured:
    """A server with a certificate for 127.0.0.1, and files of its authority and of another one."""

    server: RunningServer
    ca: Path
    other_ca: Path

    def url(self, ca: Path | None = None, host: str = "127.0.0.1", database: str = "store") -> StoreUrl:
        """The URL that wants verification."""
        found = replace(parse(self.server.url(database), self.server.kind), host=host)
        mysql = found.store in ("mysql", "mariadb")
        file = str(ca or self.ca)
        options = [("ssl_ca", file)] if mysql else [("sslmode", "verify-full"), ("sslrootcert", file)]
        return replace(found, options=tuple(options))


@contextmanager
def secured(kind: Kind, folder: Path) -> Iterator[Secured]:
    """A server of this kind with TLS."""
    authority, other = issue("our authority"), issue("another authority")
    given = issue("the server", authority, "127.0.0.1")
    files = _write(folder, kind, authority, other, given)
    names = ("ssl_ca_file", "ssl_cert_file", "ssl_key_file")
    settings = {"ssl": "on"}
    if kind in ("mysql", "mariadb"):
        names, settings = ("ssl-ca", "ssl-cert", "ssl-key"), {"tls-version": "TLSv1.3"}
    settings |= dict(zip(names, map(str, files), strict=True))
    with servers.start(kind, settings) as server:
        databases.create(server, "store")
        yield Secured(server, files[0], folder / f"{kind}-other.pem")


def _write(folder: Path, kind: Kind, authority: Issued, other: Issued, given: Issued) -> tuple[Path, Path, Path]:
    ca, certificate, key = (folder / f"{kind}-{name}.pem" for name in ("ca", "server", "key"))
    ca.write_bytes(authority.certificate)
    (folder / f"{kind}-other.pem").write_bytes(other.certificate)
    certificate.write_bytes(given.certificate)
    key.touch(0o600)
    key.write_bytes(given.key)
    if (owner := places.server_user()) is not None:
        os.chown(key, *owner)
    return ca, certificate, key
