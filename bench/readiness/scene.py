"""What every question needs to know: the store, a session of it, and the MLflow server that is to stand before it."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from bench.readiness.check import Check
from bench.stores.base import Session, Store
from bench.stores.url import StoreUrl

_STORES = ("tracking store", "model registry")  # MLflow makes an engine for each, though they share a database
_AGAIN = "try again; if it stays so, ask the same as the database's administrator"
LONGEST_S = 30  # a statement that goes through rows is given up after so long


@dataclass(frozen=True)
class Server:
    """The MLflow server of the deployment, as far as the database feels it; the defaults are MLflow's own."""

    workers: int = 4
    pool: int = 5
    overflow: int = 10
    pools: tuple[str, ...] = _STORES  # what each worker has a pool of its own for

    @property
    def connections(self) -> int:
        """As many as it may open at the same time."""
        return len(self.pools) * self.one_pool

    @property
    def one_pool(self) -> int:
        """As many as all workers may open for one of their pools."""
        return self.workers * (self.pool + self.overflow)

    def on(self, tables: Collection[str]) -> Server:
        """The same server as a database with these tables feels it: that of its users has a pool for them."""
        users = ("users",) if "users" in tables else ()
        stores = _STORES if "experiments" in tables or not users else ()
        return replace(self, pools=stores + users)

    def __str__(self) -> str:
        pools = f"{len(self.pools)} pool{'s' * (len(self.pools) > 1)} ({', '.join(self.pools)})"
        each = f"({self.pool} pooled + {self.overflow} more)"
        return f"{self.workers} workers x {pools} x {each} = {self.connections} connections"


@dataclass(frozen=True)
class Scene:
    """A store under examination."""

    url: StoreUrl
    store: Store
    session: Session
    server: Server = field(default_factory=Server)

    @property
    def local(self) -> bool:
        """Whether the URL leads to this very machine, or to a tunnel that begins on it."""
        return is_loopback(self.url.host)


@dataclass(frozen=True)
class Question:
    """One thing to ask. ``ask`` may raise the driver's errors; ``right`` is what mends a lack of rights."""

    name: str
    title: str
    ask: Callable[[], Awaitable[Sequence[Check]]]
    right: str = ""


async def answer(question: Question, session: Session | None) -> Sequence[Check]:
    """The checks that come of a question; one unknown where it can't be asked."""
    try:
        return await question.ask()
    except Exception as error:
        why = f"could not be looked at: {one_line(error)}"
        remedy = question.right or _AGAIN
        return [Check(name=question.name, title=question.title, outcome="unknown", found=why, remedy=remedy)]
    finally:
        if session is not None:
            with suppress(Exception):
                await session.rollback()


def one_line(error: BaseException) -> str:
    """An error's first line, without the driver's number where there are words."""
    words = [str(part) for part in error.args if isinstance(part, str) and part.strip()] or [str(error)]
    lines = words[-1].strip().splitlines()
    return lines[0] if lines else type(error).__name__


def is_loopback(host: str) -> bool:
    """Whether ``host`` is a name or address of this machine for itself."""
    if host.lower() in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first of ``names``, and how many there are beyond them."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def amount(octets: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(octets) < 1000:
            return f"{octets:.0f} {unit}" if unit == "B" else f"{octets:.3g} {unit}"
        octets /= 1000
    return f"{octets:.3g} TB"
