"""What the tests of `trackbench readiness` share: asking for all checks, an ordinary login, and rows."""

import asyncio
import itertools
import time
from dataclasses import replace

from stores import ARTIFACTS, connected

from bench.readiness.check import Check, Readiness
from bench.readiness.look import readiness
from bench.readiness.scene import Server
from bench.stores.url import StoreUrl

GOOD = "kV7-qd9Zp0_sLw3x"
_numbers = itertools.count(1)


def look(url: StoreUrl, backup: bool = False, server: Server | None = None) -> Readiness:
    """All checks."""
    return asyncio.run(readiness(url, server, with_backup=backup))


def checks(url: StoreUrl, backup: bool = False) -> dict[str, Check]:
    """All checks by name."""
    found = look(url, backup).checks
    assert len({check.name for check in found}) == len(found)
    assert [check.name for check in found if (check.remedy == "") != (check.outcome == "pass")] == []
    return {check.name: check for check in found}


def outcomes(url: StoreUrl, *names: str) -> list[str]:
    """The outcomes of some checks."""
    found = checks(url)
    return [found[name].outcome for name in names]


def not_looked_at(found: dict[str, Check]) -> list[str]:
    return [f"{check.name}: {check.found}" for check in found.values() if check.outcome == "unknown"]


def ordinary(url: StoreUrl, password: str = GOOD, more: str = "") -> StoreUrl:
    """A PostgreSQL login without any power that owns this database and all in it."""
    role = f"plain{next(_numbers)}"
    with connected(url) as cursor:
        cursor.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}' {more}")
        cursor.execute(f"ALTER DATABASE {url.database} OWNER TO {role}")
        cursor.execute(f"ALTER SCHEMA public OWNER TO {role}")
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        for (table,) in cursor.fetchall():
            cursor.execute(f"ALTER TABLE {table} OWNER TO {role}")
    return replace(url, user=role, password=password)


def fill(url: StoreUrl, runs: int = 3, metrics: int = 100, days: int = 2) -> None:
    """Runs of so many days ago with metrics of many values."""
    mark = "?" if url.path else "%s"
    now = int(time.time() * 1000) - days * 86_400_000
    with connected(url) as cursor:
        cursor.execute("BEGIN")
        for number in range(runs):
            run = f"{number:032x}"
            values = (run, f"run {number}", "RUNNING", now, "active", f"{ARTIFACTS}/{run}", 0)
            columns = "run_uuid, name, status, start_time, lifecycle_stage, artifact_uri, experiment_id"
            cursor.execute(f"INSERT INTO runs ({columns}) VALUES ({', '.join([mark] * len(values))})", values)
            rows = [("loss", 0.1 * step, now + step, step, run, False) for step in range(metrics)]
            key = "`key`" if url.store == "mysql" else "key"
            statement = f"INSERT INTO metrics ({key}, value, timestamp, step, run_uuid, is_nan) VALUES "
            cursor.executemany(f"{statement}({', '.join([mark] * 6)})", rows)
        cursor.execute("COMMIT")
