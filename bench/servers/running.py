"""A running database server, seen from the process that owns it: where it is, and whether one can log in to it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from bench.servers.base import Kind
from bench.servers.launch import USER, Launch
from bench.servers.login import log_in
from bench.servers.supervised import HOST, Supervised

__all__ = ["HOST", "RunningServer"]


class RunningServer(Supervised):
    """A private database server on loopback. Use it as a context manager, or call `stop()`.

    `kind` is the truth, as the server says it: a MariaDB that was started for want of MySQL says `mariadb`.
    `pid` is the server's process (with Docker: the client's). All methods may be called from any thread.
    """

    user = USER
    ready_seconds = 90.0
    ready_means = "nobody could log in"

    def __init__(self, kind: Kind, source: str, launch: Launch, folder: Path, password: str) -> None:
        self.kind = kind
        self.password = password
        self.version = ""
        super().__init__(kind, source, launch, folder)

    def url(self, database: str) -> str:
        """The address of `database` as MLflow takes it, with the password in it: never print it."""
        scheme = "postgresql" if self.kind in ("postgresql", "timescaledb") else "mysql+pymysql"
        return f"{scheme}://{self.user}:{quote(self.password, safe='')}@{HOST}:{self.port}/{quote(database)}"

    def _answers(self, within_s: float) -> bool:
        """Log in once: an open port would prove nothing."""
        answer = log_in(self.kind, HOST, self.port, self.user, self.password, within_s)
        if answer is None:
            return False
        self.version = answer.version
        if answer.is_mariadb:
            self.kind = self.label = "mariadb"
        return True
