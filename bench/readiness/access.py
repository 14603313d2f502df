"""Who may connect from where, and what MLflow's login may do: no more than MLflow needs, and all of that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.readiness.check import Check, Outcome
from bench.readiness.scene import is_loopback, listed

_NAME, _TITLE = "access", "Who may connect from where"
_ANYWHERE = ("all", "0.0.0.0", "::", "0.0.0.0/0", "::/0")
_CLEAR = ("password", "ident")
Trouble = tuple[Outcome, str, str]  # how bad, what, what to do


@dataclass(frozen=True)
class HbaRule:
    """A line of pg_hba.conf as ``pg_hba_file_rules`` shows it."""

    line: int
    type: str  # local, host, hostssl, hostnossl, hostgssenc, hostnogssenc
    databases: tuple[str, ...]
    users: tuple[str, ...]
    address: str
    netmask: str
    method: str
    error: str = ""

    @property
    def anywhere(self) -> bool:
        """Whether it matches every address."""
        return self.address == "all" or (self.address in _ANYWHERE and self.netmask in ("", "0.0.0.0", "::"))

    @property
    def here(self) -> bool:
        """Whether it matches this machine's own sessions only."""
        return self.type == "local" or self.address == "samehost" or is_loopback(self.address or "?")


def hba(rules: Sequence[HbaRule], database: str, private: bool | None) -> Check:
    """The check of the lines that bear on ``database``; ``private``: the server listens on loopback only."""
    troubles: list[Trouble] = []
    concerned = [rule for rule in rules if not rule.error and {"all", database} & set(rule.databases)]
    for rule in concerned:
        troubles += _of_rule(rule, private)
    broken = [f"line {rule.line}: {rule.error}" for rule in rules if rule.error]
    if broken:
        troubles.append(("warn", f"pg_hba.conf has lines in error: {listed(broken, 2)}", "mend them"))
    where = "listens on loopback only" if private else "listens on the network" if private is False else "listens"
    return _summed(troubles, f"{len(concerned)} lines of pg_hba.conf bear on this database; the server {where}")


def _of_rule(rule: HbaRule, private: bool | None) -> Iterable[Trouble]:
    said = (
        f"line {rule.line} ({rule.type} {','.join(rule.databases)} {','.join(rule.users)} {rule.address} {rule.method})"
    )
    if rule.method == "reject":
        return
    if rule.method == "trust":
        how: Outcome = "warn" if rule.here or private else "fail"
        yield how, f"{said} asks for no password", "change trust to scram-sha-256 in pg_hba.conf, reload"
    if rule.type == "local":
        return
    if rule.method in _CLEAR and rule.type != "hostssl" and not rule.here:
        yield "fail", f"{said} takes passwords in the clear or a client's word", "change the method to scram-sha-256"
    if rule.method == "md5":
        yield "warn", f"{said} admits md5, which PostgreSQL gives up", "change the method to scram-sha-256"
    if rule.anywhere and not private:
        clear = rule.type != "hostssl"
        yield (
            "fail" if clear and private is False else "warn",
            f"{said} admits every address{' without TLS' if clear else ''}",
            "name the MLflow server's address: hostssl <database> <user> <address>/32 scram-sha-256",
        )


@dataclass(frozen=True)
class Account:
    """A MySQL account. ``secret``: it has a password or a plugin that needs none (a socket's peer)."""

    user: str
    host: str
    secret: bool = True
    tls: bool = False

    def __str__(self) -> str:
        return f"'{self.user}'@'{self.host}'"


def accounts(found: Sequence[Account], login: str, private: bool | None, complete: bool) -> Check:
    """The check of MySQL's accounts; ``complete`` is False where only our own, ``login``, could be seen."""
    troubles: list[Trouble] = []
    for one in found:
        away = one.host not in ("localhost", "127.0.0.1", "::1")
        if not one.secret:
            how: Outcome = "fail" if away and not private else "warn"
            troubles.append((how, f"{one} has no password", f"ALTER USER {one} IDENTIFIED BY '…'"))
        if not one.user:
            troubles.append(("fail", f"{one} admits anybody, whatever the name", f"DROP USER {one}"))
        if away and one.user == "root" and not private:
            troubles.append(("fail", "root may come from other machines", f"DROP USER {one}"))
        elif away and "%" in one.host and not private:
            remedy = f"RENAME USER {one} TO '{one.user}'@'<MLflow server's address>'"
            how = "warn" if one.tls or private is None else "fail"
            troubles.append((how, f"{one} may come from anywhere{'' if one.tls else ' without TLS'}", remedy))
    where = "on loopback only" if private else "on the network" if private is False else "where it could not be seen"
    text = f"accounts: {listed([str(one) for one in found])}; the server listens {where}"
    if complete:
        return _summed(troubles, text)
    seen = f"only this login, {login}, could be seen"
    right = f"GRANT SELECT ON mysql.user TO {login}"
    if not any(trouble[0] == "fail" for trouble in troubles):
        words = "; ".join([seen, *(what for _, what, _ in troubles)])
        return Check(name=_NAME, title=_TITLE, outcome="unknown", found=words, remedy=right)
    return _summed(troubles, seen)


def _summed(troubles: Sequence[Trouble], otherwise: str) -> Check:
    order: tuple[Outcome, ...] = ("fail", "unknown", "warn")
    worst = sorted(troubles, key=lambda one: order.index(one[0]))
    if not worst:
        return Check(name=_NAME, title=_TITLE, outcome="pass", found=otherwise)
    found = listed(list(dict.fromkeys(what for _, what, _ in worst)), 4)
    remedies = list(dict.fromkeys(remedy for _, _, remedy in worst))
    return Check(name=_NAME, title=_TITLE, outcome=worst[0][0], found=found, remedy="; ".join(remedies[:3]))


def role(login: str, powers: Sequence[str], lacks: Sequence[str], remedy: str, give: str) -> Check:
    """Whether the login has more power than MLflow needs (``powers``), or less than it needs (``lacks``)."""
    title = "Rights of MLflow's login"
    if powers:
        found = f"{login} has {listed(list(powers))}: whoever gets at MLflow's settings owns the whole server"
        return Check(name="role", title=title, outcome="fail", found=found, remedy=remedy)
    if lacks:
        found = f"{login} lacks {listed(list(lacks))}: `mlflow db upgrade` or MLflow itself will fail"
        return Check(name="role", title=title, outcome="fail", found=found, remedy=give)
    return Check(name="role", title=title, outcome="pass", found=f"{login} is an ordinary login and owns what it needs")
