"""The commands `trackbench servers …` and `trackbench doctor`."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from bench.errors import BadInput
from bench.servers import KINDS, Kind, Offer, as_kind, catalogue, compose, debian, places, standing

# What is installed and started when no kind is named: the candidates. MariaDB only stands in for MySQL.
CANDIDATES: tuple[Kind, ...] = ("postgresql", "timescaledb", "mysql")
_TOOLS = ("psql", "pgbench", "mysql", "mysqladmin", "mysqlslap")
_SETTINGS_HELP = "Override a server setting, for example --set synchronous_commit=off."


def _kinds(names: Iterable[str]) -> tuple[Kind, ...]:
    return tuple(dict.fromkeys(as_kind(name) for name in names))


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2))


def _progress(line: str) -> None:
    click.echo(line, err=True)


@click.group()
def servers() -> None:
    """Private database servers on loopback, without Docker if there is none."""


@servers.command("install")
@click.argument("kinds", nargs=-1, metavar="[KIND]...")
def install_command(kinds: tuple[str, ...]) -> None:
    """Fetch servers (default: postgresql, timescaledb and mysql). Nothing of the system is changed."""
    for kind in _kinds(kinds) or CANDIDATES:
        click.echo(_offer_line(catalogue.install(kind, _progress)))


@servers.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(as_json: bool) -> None:
    """Show what each source has, and which servers are up."""
    found = catalogue.offers()
    running = standing.standing()
    if as_json:
        _print_json({"offers": [_offer_json(offer) for offer in found], "up": [server.public() for server in running]})
        return
    for offer in found:
        click.echo(_offer_line(offer))
    for server in running:
        click.echo(f"up: {_standing_line(server)}")


@servers.command("up")
@click.argument("kinds", nargs=-1, metavar="[KIND]...")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help=_SETTINGS_HELP)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, without passwords.")
def up_command(kinds: tuple[str, ...], settings: tuple[str, ...], as_json: bool) -> None:
    """Start servers that stay until `down` (default: postgresql, timescaledb and mysql).

    Prints each one's address with its password, for you to use; on disk it is in a file only you can read.
    """
    overrides = dict(_setting(text) for text in settings)
    started = [standing.up(kind, _progress, overrides) for kind in _kinds(kinds) or CANDIDATES]
    if as_json:
        _print_json([server.public() for server in started])
        return
    for server in started:
        click.echo(_standing_line(server))
        click.echo(f"  {server.url}")


@servers.command("down")
@click.argument("kinds", nargs=-1, metavar="[KIND]...")
def down_command(kinds: tuple[str, ...]) -> None:
    """Stop servers that `up` started and remove their data (default: all of them)."""
    for kind in _kinds(kinds) or KINDS:
        if standing.down(kind):
            click.echo(f"{kind}: stopped, data removed")
        elif kinds:
            click.echo(f"{kind}: was not up")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """Show what this machine has, what is missing, and the one command that gets it."""
    report = examine()
    if as_json:
        _print_json(report)
        return
    memory = f"{report['memory_bytes'] / 2**30:.1f} GiB memory" if report["memory_bytes"] else "memory unknown"
    click.echo(f"Python {report['python']} on {report['system']}; {report['cores']} cores, {memory}")
    click.echo(f"Cache {report['cache']}: {report['cache_free_bytes'] / 2**30:.0f} GiB free; ", nl=False)
    click.echo(f"data folders in {report['temp']}: {report['temp_free_bytes'] / 2**30:.0f} GiB free")
    click.echo(f"Docker: {report['docker']['detail']}")
    click.echo(f"Package archive: {report['archive'] or 'none that a prefix can be built from'}")
    for kind in KINDS:
        click.echo(f"{kind}:")
        for offer in (offer for offer in report["offers"] if offer["kind"] == kind):
            mark = "ready" if offer["ready"] else "not ready"
            version = f", {offer['version']}" if offer["version"] else ""
            click.echo(f"  {offer['source']}: {mark}{version} ({offer['detail']})")
    for missing in report["missing"]:
        click.echo(f"missing: {missing['kind']}. {missing['remedy']}")
    if not report["missing"]:
        click.echo("Every kind of server has a source that is ready.")


def examine() -> dict[str, Any]:
    """What `doctor` shows, as plain values."""
    found = catalogue.offers()
    archive = debian.host_archive()
    cache, temp = places.cache_place(), places.temp_root()
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": _memory(),
        "cache": str(cache),
        "cache_free_bytes": _free_bytes(cache),
        "temp": str(temp),
        "temp_free_bytes": _free_bytes(temp),
        "docker": _docker(),
        "archive": f"{archive.distribution} {archive.codename}" if archive else None,
        "offers": [_offer_json(offer) for offer in found],
        "tools": {name: str(path) for name in _TOOLS if (path := catalogue.tool(name))},
        "missing": [_remedy(kind, found) for kind in KINDS if not _is_ready(kind, found)],
    }


def _free_bytes(path: Path) -> int:
    """Free bytes where `path` is or would be."""
    existing = next(part for part in (path, *path.parents) if part.exists())
    return shutil.disk_usage(existing).free


def _memory() -> int | None:
    import psutil

    return int(psutil.virtual_memory().total)


def _docker() -> dict[str, Any]:
    client, daemon = shutil.which("docker"), compose.daemon()
    if client is None:
        detail = "no client on PATH"
    elif daemon is None:
        detail = "the client is here, but no daemon answers"
    else:
        version = compose.compose_version()
        plugin = f"Compose {'.'.join(map(str, version))}" if version else "without Compose"
        detail = f"daemon {daemon}, {plugin}"
    return {"client": client, "daemon": daemon, "detail": detail}


def _is_ready(kind: Kind, found: Iterable[Offer]) -> bool:
    return any(offer.ready for offer in found if offer.kind == kind)


def _remedy(kind: Kind, found: Iterable[Offer]) -> dict[str, str]:
    """The one command that gets `kind`, or why there is none."""
    own = [offer for offer in found if offer.kind == kind]
    for offer in own:
        if offer.remedy:
            return {"kind": kind, "remedy": f"Run: {offer.remedy}"}
    reasons = "; ".join(offer.detail for offer in own)
    return {"kind": kind, "remedy": reasons or "Start Docker, or name a server of yours by URL (--store)"}


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise BadInput(f"--set {text}: write NAME=VALUE")
    return name, value


def _offer_json(offer: Offer) -> dict[str, object]:
    return {
        "kind": offer.kind,
        "source": offer.source,
        "ready": offer.ready,
        "version": offer.version,
        "detail": offer.detail,
        "remedy": offer.remedy,
    }


def _offer_line(offer: Offer) -> str:
    if offer.ready:
        return f"{offer.kind}: ready from {offer.source}, {offer.version} ({offer.detail})"
    remedy = f"; run: {offer.remedy}" if offer.remedy else ""
    return f"{offer.kind}: not ready from {offer.source} ({offer.detail}{remedy})"


def _standing_line(server: standing.Standing) -> str:
    instead = "" if server.kind == server.asked_for else f", asked for as {server.asked_for}"
    where = f"{server.host}:{server.port}"
    return (
        f"{server.kind}{instead} {server.version} ({server.source}) on {where}, user {server.user};"
        f" address and password in {standing.state_file(server.asked_for)}"
    )
