"""How long the versions of the databases are looked after, as of `AS_OF`.

Sources: PostgreSQL, "Versioning Policy" (postgresql.org/support/versioning); MySQL, "Oracle Lifetime Support Policy for
Technology Products" (an LTS release has eight years: 9.7's date follows from that rule; an innovation release ends
with the next); MariaDB, "Maintenance Policy" (mariadb.org/about/#maintenance-policy); TimescaleDB, release notes
(github.com/timescale/timescaledb/releases: only the newest minor release is mended); SQLite, sqlite.org/changes.html
(only the newest release is mended; the file format is promised until 2050).
"""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Final

from bench.readiness.check import Check, Outcome

AS_OF: Final = date(2026, 11, 1)
_SOON = timedelta(days=180)
_END: Final[dict[str, dict[tuple[int, ...], date]]] = {
    "PostgreSQL": {
        (9,): date(2021, 11, 11),
        (10,): date(2022, 11, 10),
        (11,): date(2023, 11, 9),
        (12,): date(2024, 11, 21),
        (13,): date(2025, 11, 13),
        (14,): date(2026, 11, 12),
        (15,): date(2027, 11, 11),
        (16,): date(2028, 11, 9),
        (17,): date(2029, 11, 8),
        (18,): date(2030, 11, 14),
    },
    "MySQL": {
        (5, 6): date(2021, 2, 5),
        (5, 7): date(2023, 10, 31),
        (8, 0): date(2026, 4, 30),
        (8, 1): date(2023, 10, 25),
        (8, 2): date(2024, 1, 16),
        (8, 3): date(2024, 4, 30),
        (8, 4): date(2032, 4, 30),
        **{(9, minor): date(2026, 4, 30) for minor in range(7)},
        (9, 7): date(2034, 4, 30),
    },
    "MariaDB": {
        (10, 4): date(2024, 6, 18),
        (10, 5): date(2025, 6, 24),
        (10, 6): date(2026, 7, 6),
        (10, 11): date(2028, 2, 16),
        (11, 4): date(2029, 5, 29),
        (11, 8): date(2028, 6, 4),
    },
}
_INNOVATION = "an innovation release, mended only until the next one"
_NEWEST: Final = {"PostgreSQL": (18,), "MySQL": (9, 7), "MariaDB": (11, 8)}
_OLD_TIMESCALEDB = (2, 19)  # of March 2025; it was the last for PostgreSQL 14's time
_OLD_SQLITE = (3, 35)  # MLflow's migrations want its ALTER TABLE
_FOUND = re.compile(r"(PostgreSQL|TimescaleDB|MySQL|MariaDB|SQLite) (\d+(?:\.\d+)*)")
_NAME, _TITLE = "version", "Version and end of life"
_UPGRADE = "upgrade to a release that is looked after (take a backup first)"


def check(version: str, today: date) -> Check:
    """The check of a server's own words about its version, such as "PostgreSQL 18.6, TimescaleDB 2.31.0"."""
    judged = [_judge(product, number, today) for product, number in _FOUND.findall(version)]
    if not judged:
        found, remedy = f"{version}: not known to Trackbench", "look its end of life up with whoever makes it"
        return Check(name=_NAME, title=_TITLE, outcome="unknown", found=found, remedy=remedy)
    order: tuple[Outcome, ...] = ("pass", "warn", "unknown", "fail")
    outcome = max((one for one, _ in judged), key=order.index)
    found = "; ".join(words for _, words in judged)
    return Check(name=_NAME, title=_TITLE, outcome=outcome, found=found, remedy="" if outcome == "pass" else _UPGRADE)


def _judge(product: str, number: str, today: date) -> tuple[Outcome, str]:
    parts = tuple(map(int, number.split(".")))
    named = f"{product} {number}"
    if product == "SQLite":
        old = parts < _OLD_SQLITE
        return ("fail", f"{named} is too old for MLflow's migrations") if old else ("pass", f"{named} (this machine's)")
    if product == "TimescaleDB":
        if parts[:2] < _OLD_TIMESCALEDB:
            return "warn", f"{named} is older than 2.19: only the newest minor release is mended"
        return "pass", f"{named}: only the newest minor release is mended, so follow it"
    series = parts[:1] if product == "PostgreSQL" else parts[:2]
    end = _END[product].get(series)
    if end is None:
        if series > _NEWEST[product]:
            return "pass", f"{named} is newer than this table ({AS_OF:%B %Y})"
        ended = "an innovation or early release" if product != "PostgreSQL" else "a release before 9"
        return "fail", f"{named} is {ended}: nobody mends it any more"
    if end <= today:
        innovation = f" ({_INNOVATION})" if product == "MySQL" and parts[0] == 9 else ""
        return "fail", f"{named} reached its end of life on {end}{innovation}"
    if end - today < _SOON:
        return "warn", f"{named} reaches its end of life on {end}"
    return "pass", f"{named} is looked after until {end}"
