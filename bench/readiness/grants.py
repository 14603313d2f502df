"""What MySQL's and MariaDB's `SHOW GRANTS` gives a login, on a database that rights may name by a pattern."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_GRANT = re.compile(r"GRANT (.+?) ON (.+?) TO ", re.DOTALL)
_ROLES = re.compile(r"GRANT (.+?) TO ", re.DOTALL)


@dataclass(frozen=True)
class Rights:
    """Rights by where they hold, and the roles that the login was given, active or not."""

    everywhere: frozenset[str]
    here: frozenset[str]
    may_grant: bool  # everywhere
    roles: tuple[str, ...]


def rights(lines: Iterable[str], database: str, *, literal: bool = False) -> Rights:
    """The rights that ``lines`` give on ``database``; ``literal``: names are no patterns (partial_revokes=ON)."""
    everywhere, here, roles = set[str](), set[str](), list[str]()
    may_grant = False
    for line in lines:
        if match := _GRANT.match(line):
            given = {right.strip() for right in match[1].split(",")}
            if match[2] == "*.*":
                everywhere |= given
                may_grant = may_grant or "WITH GRANT OPTION" in line
            elif covers(match[2], database, literal=literal):
                here |= given
        elif match := _ROLES.match(line):
            roles += names(match[1])
    return Rights(frozenset(everywhere), frozenset(here), may_grant, tuple(dict.fromkeys(roles)))


def names(roles: str) -> list[str]:
    """Roles as they are listed, without quotes: `reader`@`%`,`writer`@`%`."""
    return [name for part in roles.split(",") if (name := re.sub("[`']", "", part).strip())]


def covers(place: str, database: str, *, literal: bool = False) -> bool:
    """Whether a right ON ``place`` holds in all of ``database``: `%` is any text, `_` any character, `\\_` itself."""
    name, dot, table = place.rpartition(".")
    if not dot or table != "*":
        return False
    if name.startswith("`"):
        name = name[1:-1].replace("``", "`")
    parts = re.findall(r"\\[_%\\]|.", name, re.DOTALL)
    wild = {} if literal else {"%": ".*", "_": "."}
    pattern = "".join(wild.get(part) or re.escape(part[-1]) for part in parts)
    return re.fullmatch(pattern, database, re.DOTALL) is not None
