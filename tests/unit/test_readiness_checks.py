"""The judgements of `trackbench readiness`, each planted both ways; what servers really say is in tests/servers."""

from datetime import date
from pathlib import Path

import pytest

from bench.migrate.catalog import AUTH, TRACKING, Catalog
from bench.migrate.proof import StructureDifference
from bench.readiness import access, accounts, growth, limits, password, safety, schema_checks, tls, upkeep, versions
from bench.readiness.access import Account, HbaRule
from bench.readiness.check import Check, Outcome, Readiness
from bench.readiness.growth import Disk, Pace, Size
from bench.readiness.scene import Server, amount, is_loopback, listed
from bench.readiness.sqlite import file_system_of
from bench.readiness.tls import Wire
from bench.stores.base import Durability
from bench.stores.url import StoreUrl

TODAY = date(2026, 11, 22)
RANDOM = "kV7-qd9Zp0_sLw3x"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", "fail"),
        ("mlflow", "fail"),
        ("Mlflow", "fail"),
        ("postgres", "fail"),
        ("root", "fail"),
        ("password", "fail"),
        ("carol", "fail"),
        ("lorac", "fail"),
        ("carol123", "fail"),
        ("tracking", "fail"),
        ("x9$kQ2", "fail"),
        ("aaaaaaaaaaaaaaaa", "fail"),
        ("x9$kQ2bV", "warn"),
        (RANDOM, "pass"),
    ],
)
def test_a_password_that_is_tried_first_fails_and_is_not_shown(given: str, expected: Outcome) -> None:
    check = password.check("carol", given, "tracking", "ALTER ROLE carol PASSWORD '…'", asked=True if given else None)
    assert check.outcome == expected
    assert (check.remedy == "") == (expected == "pass")
    if given and given not in ("password", "mlflow", "postgres", "root", "carol", "tracking"):
        assert given not in str(check)
    assert "user" not in check.found  # "the user's name" would tell it as well


def test_a_server_that_asks_for_no_password_fails_whatever_the_url_holds() -> None:
    assert password.check("u", RANDOM, "d", "…", asked=False).outcome == "fail"
    assert password.check("u", "", "d", "…", asked=True).outcome == "unknown"


def wire(**changes: object) -> Wire:
    given: dict[str, object] = {
        "encrypted": True, "protocol": "TLSv1.3", "verified": True, "unencrypted": "refused", "local": False,
        "private": False, "verify": "?sslmode=verify-full", "demand": "hostssl",
    }  # fmt: skip
    return Wire(**{**given, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "session", "demand"),
    [
        ({}, "pass", "pass"),
        ({"verified": False}, "warn", "pass"),
        ({"unencrypted": "admitted"}, "pass", "fail"),
        ({"unencrypted": "unknown"}, "pass", "unknown"),
        ({"encrypted": False, "verified": False, "unencrypted": "admitted"}, "fail", "fail"),
        ({"encrypted": False, "verified": False, "unencrypted": "admitted", "local": True}, "warn", "warn"),
        (
            {"encrypted": False, "verified": False, "unencrypted": "admitted", "local": True, "private": True},
            "pass",
            "pass",
        ),
        ({"encrypted": False, "verified": False, "unencrypted": "admitted", "private": True}, "fail", "fail"),
    ],
)
def test_tls(changes: dict[str, object], session: Outcome, demand: Outcome) -> None:
    assert [check.outcome for check in tls.checks(wire(**changes))] == [session, demand]


def rule(kind: str = "host", address: str = "10.0.0.5", method: str = "scram-sha-256", **changes: object) -> HbaRule:
    given = HbaRule(7, kind, ("mlflow",), ("mlflow",), address, "255.255.255.255", method)
    return HbaRule(**{**vars(given), **changes})


@pytest.mark.parametrize(
    ("found", "private", "expected"),
    [
        (rule(), False, "pass"),
        (rule(method="trust"), False, "fail"),
        (rule(method="trust"), True, "warn"),
        (rule("local", "", "trust"), False, "warn"),
        (rule("host", "127.0.0.1", "trust"), False, "warn"),
        (rule(method="trust", databases=("other",)), False, "pass"),
        (rule(method="password"), False, "fail"),
        (rule("hostssl", method="password"), False, "pass"),
        (rule(method="md5"), False, "warn"),
        (rule(address="0.0.0.0", netmask="0.0.0.0"), False, "fail"),
        (rule(address="::", netmask="::"), None, "warn"),
        (rule(address="all", netmask="", databases=("all",)), False, "fail"),
        (rule("hostssl", "0.0.0.0", netmask="0.0.0.0"), False, "warn"),
        (rule(address="0.0.0.0", netmask="0.0.0.0"), True, "pass"),
        (rule(address="0.0.0.0", netmask="0.0.0.0", method="reject"), False, "pass"),
        (rule(error="invalid method"), False, "warn"),
    ],
)
def test_lines_of_pg_hba(found: HbaRule, private: bool | None, expected: Outcome) -> None:
    assert access.hba([rule(), found], "mlflow", private).outcome == expected


@pytest.mark.parametrize(
    ("found", "private", "expected"),
    [
        (Account("mlflow", "10.0.0.5"), False, "pass"),
        (Account("mlflow", "%"), False, "fail"),
        (Account("mlflow", "%", tls=True), False, "warn"),
        (Account("mlflow", "%"), None, "warn"),
        (Account("mlflow", "%"), True, "pass"),
        (Account("root", "10.0.0.%"), False, "fail"),
        (Account("root", "localhost"), False, "pass"),
        (Account("", "localhost"), False, "fail"),
        (Account("mlflow", "localhost", secret=False), False, "warn"),
        (Account("mlflow", "10.0.0.5", secret=False), False, "fail"),
    ],
)
def test_accounts_of_mysql(found: Account, private: bool | None, expected: Outcome) -> None:
    assert access.accounts([Account("admin", "10.0.0.1"), found], "'a'@'b'", private, True).outcome == expected


def test_accounts_that_cannot_be_seen_are_unknown_unless_our_own_is_bad() -> None:
    check = access.accounts([Account("mlflow", "10.0.0.5")], "'mlflow'@'10.0.0.5'", False, False)
    assert check.outcome == "unknown"
    assert check.remedy == "GRANT SELECT ON mysql.user TO 'mlflow'@'10.0.0.5'"
    assert access.accounts([Account("mlflow", "%")], "'mlflow'@'%'", False, False).outcome == "fail"


def test_too_much_and_too_little_power() -> None:
    assert access.role("u", [], [], "", "").outcome == "pass"
    assert access.role("u", ["SUPERUSER"], [], "ALTER ROLE", "").outcome == "fail"
    assert access.role("u", [], ["CREATE"], "", "GRANT").remedy == "GRANT"


@pytest.mark.parametrize(
    ("most", "others", "expected"), [(200, 3, "pass"), (119, 0, "fail"), (120, 0, "warn"), (160, 30, "warn")]
)
def test_connections_against_workers_times_pools(most: int, others: int, expected: Outcome) -> None:
    check = limits.check(limits.Limits(most, "max_connections", others, 1, "SET max_connections = {}"), Server())
    assert check.outcome == expected
    assert "4 workers x 2 pools (tracking store, model registry) x (5 pooled + 10 more) = 120" in check.found
    assert "60 more" in check.found
    assert str(most) in check.found
    assert ("SET max_connections = 140" in check.remedy) == (expected != "pass" and not others)


def test_a_database_feels_the_pools_of_what_it_holds() -> None:
    tables: tuple[list[str], ...] = (["experiments"], ["users"], ["experiments", "users"], [])
    assert [Server().on(one).connections for one in tables] == [120, 60, 180, 120]
    check = limits.check(limits.Limits(100, "max_connections", 0, 1, "{}"), Server().on(["users"]))
    assert (check.outcome, "1 pool (users) x" in check.found, "60 more" in check.found) == ("pass", True, False)


@pytest.mark.parametrize(
    ("crash", "power", "expected"),
    [
        (None, None, "pass"),
        (None, "the last commit", "warn"),
        ("up to 600 ms of commits", "up to 600 ms of commits", "fail"),
        (None, "the whole cluster: it may be corrupt", "fail"),
    ],
)
def test_durability(crash: str | None, power: str | None, expected: Outcome) -> None:
    assert safety.durability(Durability(crash, power, "claim"), "mend").outcome == expected
    assert safety.kept([], "unlogged", "", "").outcome == "pass"
    assert safety.kept(["metrics"], "unlogged", "a crash empties them", "SET LOGGED").outcome == "fail"


@pytest.mark.parametrize(
    ("version", "expected", "part"),
    [
        ("PostgreSQL 18.6 (Debian 18.6-3)", "pass", "2030-11-14"),
        ("PostgreSQL 15.3", "pass", "2027-11-11"),
        ("PostgreSQL 14.20", "fail", "2026-11-12"),
        ("PostgreSQL 19.1", "pass", "newer"),
        ("PostgreSQL 9.6.24", "fail", "2021"),
        ("PostgreSQL 18.6, TimescaleDB 2.31.0", "pass", "2.31.0"),
        ("PostgreSQL 18.6, TimescaleDB 2.11.1", "warn", "2.11.1"),
        ("PostgreSQL 13.1, TimescaleDB 2.31.0", "fail", "13.1"),
        ("MySQL 8.4.3 (MySQL Community Server - GPL)", "pass", "2032"),
        ("MySQL 8.0.40", "fail", "2026-04-30"),
        ("MySQL 9.2.0", "fail", "innovation"),
        ("MySQL 9.7.4-2 (Debian)", "pass", "2034"),
        ("MariaDB 10.11.18-MariaDB (Debian 12)", "pass", "2028"),
        ("MariaDB 10.6.1-MariaDB", "fail", "2026"),
        ("MariaDB 10.8.1-MariaDB", "fail", "early release"),
        ("SQLite 3.40.1", "pass", "3.40.1"),
        ("SQLite 3.22.0", "fail", "too old"),
        ("CockroachDB 25", "unknown", "not known"),
    ],
)
def test_end_of_life(version: str, expected: Outcome, part: str) -> None:
    check = versions.check(version, TODAY)
    assert (check.outcome, part in check.found) == (expected, True), check.found


def test_end_of_life_is_announced_half_a_year_ahead() -> None:
    assert versions.check("PostgreSQL 15.3", date(2027, 8, 1)).outcome == "warn"


def test_growth_says_when_the_disk_is_full() -> None:
    sizes = [Size("metrics", 10_000_000, 10**9)]
    lately = [Pace(7, 700_000, 70), Pace(30, 1_500_000, 150)]  # 100,000 rows of 100 bytes a day
    check = growth.growth(lately, sizes, 10**9, Disk(10**9, 10**10))
    assert (check.outcome, "100,000 metrics and 10.0 runs a day over 7 days" in check.found) == ("pass", True)
    assert "full in 100 days" in check.found
    assert growth.growth(lately, sizes, 10**9, Disk(5 * 10**8, 10**10)).outcome == "warn"
    assert growth.growth(lately, sizes, 10**9, Disk(10**8, 10**10)).outcome == "fail"
    assert growth.growth([Pace(7, 0, 0)], sizes, 10**9, None).found == "no run was begun in the last 30 days"


def test_disk_space() -> None:
    assert growth.disk_space(Disk(5 * 10**10, 10**11), 10**9, elsewhere=False).outcome == "pass"
    assert growth.disk_space(Disk(10**10, 10**11), 10**9, elsewhere=False).outcome == "warn"
    assert growth.disk_space(Disk(10**9, 10**11), 10**8, elsewhere=False).outcome == "fail"
    assert growth.disk_space(Disk(5 * 10**10, 10**11), 6 * 10**10, elsewhere=False).outcome == "fail"
    assert growth.disk_space(None, 1, elsewhere=True).outcome == "warn"


def test_upkeep() -> None:
    kept = upkeep.Kept("metrics", 100_000, 0, True)
    assert upkeep.vacuum(True, [kept]).outcome == "pass"
    assert upkeep.vacuum(False, [kept]).outcome == "fail"
    assert "dead" in upkeep.vacuum(True, [upkeep.Kept("metrics", 100_000, 90_000, True)]).found
    assert "never analysed: metrics" in upkeep.vacuum(True, [upkeep.Kept("metrics", 100_000, 0, False)]).found
    ages = [upkeep.wraparound(age, 200_000_000).outcome for age in (10, 500_000_000, 1_500_000_000)]
    assert ages == ["pass", "warn", "fail"]
    assert [upkeep.point_in_time(on, "archive", "how").outcome for on in (True, False)] == ["pass", "warn"]


def test_revision_and_structure() -> None:
    known = frozenset({"old", "head"})
    url = StoreUrl("postgresql", host="db", port=5432, user="mlflow", password=RANDOM, database="mlflow")
    revisions = ("head", "old", "next", None)
    found = [schema_checks.revision(one, "head", known, TRACKING.name, url).outcome for one in revisions]
    assert found == ["pass", "fail", "unknown", "fail"]
    catalog = Catalog("postgresql", TRACKING, "head", {})
    lost = StructureDifference(what="index", table="metrics", source="(run_uuid)", target="none")
    more = StructureDifference(what="index", table="metrics", source="none", target="(value)")
    outcomes = [schema_checks.structure(one, catalog).outcome for one in ([], [more], [more, lost])]
    assert outcomes == ["pass", "warn", "fail"]
    assert "metrics" in schema_checks.structure([lost], catalog).found


@pytest.mark.parametrize(
    ("store", "expected"),
    [
        ("postgresql", "`mlflow db upgrade postgresql+psycopg2://mlflow@db:1/mlflow` with the password in ~/.pgpass"),
        ("mysql", "'mysql+pymysql://mlflow@db:1/mlflow?read_default_file=~/.my.cnf'` with the password in ~/.my.cnf"),
    ],
)
def test_no_remedy_puts_a_password_on_a_command_line(store: str, expected: str) -> None:
    url = StoreUrl(store, host="db", port=1, user="mlflow", password=RANDOM, database="mlflow")
    known = frozenset({"old", "head"})
    check = schema_checks.revision("old", "head", known, TRACKING.name, url)
    assert expected in check.remedy
    assert RANDOM not in check.remedy
    assert check.remedy.startswith("`trackbench rehearse-upgrade")
    assert "db upgrade" not in schema_checks.revision("old", "head", known, AUTH.name, url).remedy


def test_the_default_password_of_mlflows_administrator_is_found() -> None:
    from werkzeug.security import generate_password_hash

    bad, good = (generate_password_hash(word, "pbkdf2:sha256:2") for word in ("password1234", RANDOM))
    assert accounts.administrators([]).outcome == "pass"
    assert accounts.administrators([("admin", good)]).outcome == "pass"
    check = accounts.administrators([("boss", good), ("admin", bad)])
    assert (check.outcome, check.found) == ("fail", "admin can be logged in as with a default password")
    assert accounts.administrators([("x", "nonsense")]).outcome == "pass"
    own = generate_password_hash("carol", "pbkdf2:sha256:2")
    assert accounts.administrators([("carol", own)]).outcome == "fail"


def test_the_worst_outcome_decides() -> None:
    def made(*outcomes: Outcome) -> Readiness:
        checks = [Check(name="n", title="t", outcome=one, found="f") for one in outcomes]
        return Readiness(url="u", store="sqlite", version="v", checks=checks)

    assert made("pass", "warn").worst == "warn"
    assert made("warn", "unknown", "pass").worst == "unknown"
    assert made("unknown", "fail").worst == "fail"
    assert made().worst == "unknown"


def test_the_file_system_under_a_path(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    lines = [
        "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw",
        f"23 22 0:50 / {tmp_path}/a\\040b rw shared:1 - nfs4 host:/x rw",
        f"24 22 0:51 / {tmp_path}/a rw - tmpfs tmpfs rw",
    ]
    mounts.write_text("\n".join(lines) + "\n")
    assert file_system_of(tmp_path / "a b" / "mlflow.db", mounts) == "nfs4"
    assert file_system_of(tmp_path / "a" / "mlflow.db", mounts) == "tmpfs"
    assert file_system_of(tmp_path / "abc", mounts) == "ext4"
    assert file_system_of(tmp_path, tmp_path / "missing") is None


def test_words() -> None:
    assert listed(["a", "b", "c"], 2) == "a, b and 1 more"
    assert [amount(n) for n in (12, 1_500, 3_456_789, 10**12)] == ["12 B", "1.5 kB", "3.46 MB", "1 TB"]
    assert [is_loopback(host) for host in ("localhost", "127.0.0.9", "::1", "10.0.0.1", "db.example.org")] == [
        True, True, True, False, False,
    ]  # fmt: skip
