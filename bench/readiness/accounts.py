"""MLflow's own users (its basic authentication): whether an administrator still has the password of the manual."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bench.readiness.check import Check
from bench.readiness.scene import listed

# The first is what MLflow's basic_auth.ini comes with; the others are what people put there at first.
TRIED: Final = ("password1234", "password", "password123", "admin", "admin123", "admin1234", "mlflow", "changeme")
_MOST = 20  # each try takes a twentieth of a second on purpose: that is what such hashes are for
_TITLE = "Passwords of MLflow's administrators"


def administrators(users: Sequence[tuple[str, str]]) -> Check:
    """The check of administrators, given as name and hash."""
    if not users:
        return Check(name="admin_password", title=_TITLE, outcome="pass", found="there is no administrator")
    weak = [name for name, hashed in users[:_MOST] if _guessed(name, hashed)]
    seen = f"the first {_MOST} of {len(users)}" if len(users) > _MOST else f"{len(users)}"
    if not weak:
        found = f"{seen} administrators; none has MLflow's default password or one like it"
        return Check(name="admin_password", title=_TITLE, outcome="pass", found=found)
    remedy = (
        "change it now: mlflow.server.auth.client.AuthServiceClient(URL).update_user_password(NAME, NEW), and in "
        "basic_auth.ini too"
    )
    found = f"{listed(weak)} can be logged in as with a default password"
    return Check(name="admin_password", title=_TITLE, outcome="fail", found=found, remedy=remedy)


def _guessed(name: str, hashed: str) -> bool:
    from werkzeug.security import check_password_hash

    try:
        return any(check_password_hash(hashed, guess) for guess in dict.fromkeys((*TRIED, name)))
    except (ValueError, TypeError):  # a hash of another kind
        return False
