"""Whether the database admits as many connections as the MLflow server may open."""

from __future__ import annotations

from dataclasses import dataclass

from bench.readiness.check import Check, Outcome
from bench.readiness.scene import Server

_NAME, _TITLE = "connections", "Connection limit"


@dataclass(frozen=True)
class Limits:
    """How many connections MLflow's login may have at most, what sets that limit, and how many there are."""

    most: int
    set_by: str
    others: int  # of other logins and databases, which take theirs out of the same limit
    ours: int
    raise_it: str  # the statement; {} is a number


def check(limits: Limits, server: Server) -> Check:
    """The check, with all numbers in it."""
    wanted, left = server.connections, limits.most - limits.others
    other = (
        ""
        if "users" in server.pools
        else f" (basic-auth's database, if it is on this server too: {server.one_pool} more)"
    )
    numbers = (
        f"the server may open {server}{other}; the database admits {limits.most} ({limits.set_by}), of which "
        f"{limits.others} are others' now and {limits.ours} this login's"
    )
    remedy = (
        f"{limits.raise_it.format(wanted + max(20, limits.others * 2))}, or start the server with fewer workers "
        f"or MLFLOW_SQLALCHEMYSTORE_POOL_SIZE={server.pool} MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW=0"
    )
    outcome: Outcome = "fail" if wanted > limits.most else "warn" if wanted > left * 0.8 else "pass"
    return Check(name=_NAME, title=_TITLE, outcome=outcome, found=numbers, remedy="" if outcome == "pass" else remedy)
