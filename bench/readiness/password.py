"""Whether the password of MLflow's login is one that is tried first. No message ever says which it is."""

from __future__ import annotations

from typing import Final

from bench.readiness.check import Check, Outcome

_NAME, _TITLE = "password", "Password of MLflow's login"
# What images, guides and MLflow's own documentation use, and what heads every list of stolen passwords.
WELL_KNOWN: Final = frozenset({
    "mlflow", "mlflow123", "mlflow1", "mlflowpassword", "mlflow_password", "mlflow-password", "mlflowpass",
    "mlflow_pass", "mlflowdb", "mlflow_user", "mlflowuser", "postgres", "postgresql", "postgrespassword",
    "postgres123", "mysql", "mariadb", "mysqlpassword", "root", "root123", "rootpassword", "toor", "admin",
    "admin123", "admin1234", "administrator", "adminadmin", "password", "password1", "password12", "password123",
    "password1234", "passw0rd", "p@ssw0rd", "p@ssword", "pass", "pass123", "passwd", "secret", "secret123",
    "mysecretpassword", "supersecret", "changeme", "changeit", "change-me", "change_me", "changethis", "letmein",
    "welcome", "welcome1", "default", "example", "test", "test123", "testing", "guest", "user", "user123", "demo",
    "dev", "trackbench", "timescale", "timescaledb", "timescaledbpassword", "database", "db", "dbpassword",
    "db_password", "dbpass", "mydatabase", "my-secret-pw", "mypassword", "mypass", "minio", "minioadmin", "minio123",
    "minio_user", "minio_pass", "123", "1234", "12345", "123456", "1234567", "12345678", "123456789", "1234567890",
    "111111", "000000", "abc123", "qwerty", "qwerty123", "qwertyuiop", "iloveyou",
})  # fmt: skip
SHORT, GOOD = 8, 12  # characters: fewer can be tried through, as many will do if they are random
_MAKE = "make a new one with `openssl rand -base64 24`"


def weakness(password: str, *names: str) -> tuple[Outcome, str] | None:
    """How bad a password is and why, or None; ``names`` are what an attacker knows: the user's, the database's."""
    plain = password.lower()
    if not password:
        return "fail", "it is empty"
    known = {name.lower() for name in names if name}
    guesses = known | {name[::-1] for name in known} | {name + tail for name in known for tail in ("1", "123", "1234")}
    if plain in WELL_KNOWN or plain in guesses:
        return "fail", "it is one that is tried first: well known, or made of the names in the URL"
    if len(password) < SHORT:
        return "fail", f"it has fewer than {SHORT} characters"
    if len(set(password)) < 5:
        return "fail", "it repeats a few characters"
    if len(password) < GOOD:
        return "warn", f"it has fewer than {GOOD} characters"
    return None


def check(user: str, password: str, database: str, change: str, *, asked: bool | None = None) -> Check:
    """The check of a login; ``change`` is the statement that sets it, ``asked`` whether the server wants a password."""
    if asked is False:
        remedy = "have the server ask for one (pg_hba.conf: scram-sha-256 in place of trust), then reload it"
        return Check(
            name=_NAME, title=_TITLE, outcome="fail", found="the server asks this login for none", remedy=remedy
        )
    if not password and asked:
        found = "the URL has none: it comes from the environment or a password file, which nobody looked at here"
        return Check(name=_NAME, title=_TITLE, outcome="unknown", found=found, remedy="give the URL with its password")
    weak = weakness(password, user, database)
    if weak is None:
        found = f"{len(password)} characters, none of the well-known ones"
        return Check(name=_NAME, title=_TITLE, outcome="pass", found=found)
    return Check(name=_NAME, title=_TITLE, outcome=weak[0], found=weak[1], remedy=f"{_MAKE}, then: {change}")
