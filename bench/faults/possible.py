"""Why a candidate can't get a fault, in words: it does not apply to it, or it can't be had here."""

from bench import servers
from bench.fault_cell import Untested
from bench.faults.spec import NETWORK, FaultSpec
from bench.scenario import Driver
from bench.stand import Stand
from bench.stand_sql import SqlStand

_NO_POWER = (
    "not tested: losing what was not synced takes a file system that can drop it, or a cut of the real power; "
    "what its settings promise is said instead"
)


def untested(name: str, spec: FaultSpec, stand: Stand, driver: Driver) -> Untested | None:
    """Why this candidate won't get the fault; None if it will."""
    at_mlflow = driver == "http" and (spec.kind in NETWORK or spec.target == "tracking")
    if isinstance(stand, SqlStand) and not at_mlflow and (reason := stand.store.why_not(spec.kind, spec.target)):
        applies = spec.kind in ("read_only", "power")  # it could be had elsewhere
        return Untested(candidate=stand.name, fault=name, applies=applies, reason=reason)
    reason = _unreachable(spec, stand, driver)
    return None if reason is None else Untested(candidate=stand.name, fault=name, applies=True, reason=reason)


def _unproxied(stand: Stand, driver: Driver) -> str | None:
    """Why there can be no proxy in front of a server: its certificate is not for our address."""
    if driver == "http":
        secured = stand.site is not None and stand.site.url.startswith("https:")
    else:
        secured = stand.url is not None and bool({"sslmode", "ssl_ca"} & dict(stand.url.options).keys())
    return "not tested: its connections are secured by TLS, and a proxy has another address" if secured else None


def _unreachable(spec: FaultSpec, stand: Stand, driver: Driver) -> str | None:
    if spec.kind in NETWORK:
        return _unproxied(stand, driver)
    if spec.target == "load":
        return None
    if spec.target == "tracking":
        if stand.server is None:
            return "the tracking server is yours: nothing is done to it"
        return stand.server.untouchable
    if not isinstance(stand, SqlStand):
        return "only its tracking server was given"
    if stand.theirs:
        return "the database is yours: nothing is done to it"
    if spec.kind == "power":
        return None if stand.store.name == "sqlite" else _NO_POWER
    if stand.database is None:
        return None
    if spec.kind == "disk_full":
        return servers.small_disks()
    return stand.database.untouchable if spec.kind in ("kill", "stop", "freeze") else None
