"""Packages of the host's own Debian or Ubuntu archive, through an apt whose state is private to one folder.

apt does the resolving and checks the signatures; nothing of the system changes and no root is needed. The
archive's address, its key and the proxy come from the host's own configuration.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.servers.base import CannotInstall

ETC_APT = Path("/etc/apt")
OS_RELEASE = Path("/etc/os-release")
TOOLS = ("apt-get", "dpkg-deb", "tar")
Stanza = Mapping[str, str]

# Suites of Debian's own archive; a third party's stanza may name them too, but not with Debian's key.
_DEBIAN_SUITES = frozenset(
    ["oldoldstable", "oldstable", "stable", "testing", "unstable", "bullseye", "bookworm", "trixie", "forky", "sid"]
)
_OPTION_NAMES = {"arch": "Architectures", "lang": "Languages", "signed-by": "Signed-By", "trusted": "Trusted"}
_ONE_LINE = re.compile(r"deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+(.+)")
_INST = re.compile(r"^Inst (\S+) (?:\[[^\]]*\] )?\((\S+) ", re.MULTILINE)


@dataclass(frozen=True)
class Archive:
    """The distribution's main archive as this host knows it."""

    distribution: str  # "debian" or "ubuntu"
    codename: str  # of the host's own release
    stanza: Stanza

    def sources(self, suite: str) -> str:
        """A sources file (deb822) for another suite of the same archive."""
        components = "main universe" if self.distribution == "ubuntu" else "main"
        fields = {**self.stanza, "Types": "deb", "Suites": suite, "Components": components}
        return "".join(f"{name}: {value}\n" for name, value in fields.items())


@dataclass(frozen=True)
class Package:
    """One package that a simulated install would unpack."""

    name: str
    version: str


def parse_stanzas(text: str) -> list[Stanza]:
    """The stanzas of a deb822 sources file, as field -> value; disabled ones are left out."""
    stanzas: list[Stanza] = []
    kept = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for block in re.split(r"\n[ \t]*\n", kept):
        fields: dict[str, str] = {}
        last = ""
        for line in block.splitlines():
            if line[:1] in (" ", "\t") and last:  # a field that goes on: a key may be written in place
                fields[last] += "\n" + line
            elif ":" in line:
                name, _, value = line.partition(":")
                last = name.strip()
                fields[last] = value.strip()
        if fields and fields.get("Enabled", "yes").lower() not in ("no", "false"):
            stanzas.append(fields)
    return stanzas


def parse_one_line(text: str) -> list[Stanza]:
    """The `deb …` lines of an old sources.list, as deb822 fields."""
    stanzas: list[Stanza] = []
    for line in text.splitlines():
        match = _ONE_LINE.match(line.split("#")[0].strip())
        if match is None:
            continue
        options, uri, suite, components = match.groups()
        fields = {"Types": "deb", "URIs": uri, "Suites": suite, "Components": components.strip()}
        for option in (options or "").split():
            name, _, value = option.partition("=")
            fields[_OPTION_NAMES.get(name.lower(), name.title())] = value.replace(",", " ")
        stanzas.append(fields)
    return stanzas


def parse_inst(simulated: str) -> list[Package]:
    """What `apt-get -s install` would unpack."""
    return [Package(name, version) for name, version in _INST.findall(simulated)]


def main_stanza(stanzas: Iterable[Stanza], distribution: str, codename: str) -> Stanza | None:
    """The stanza of the distribution's own archive, not of updates, security or third parties."""
    suites = _DEBIAN_SUITES if distribution == "debian" else frozenset([codename])
    for stanza in stanzas:
        key = stanza.get("Signed-By", "")
        if (
            "deb" in stanza.get("Types", "").split()
            and suites & set(stanza.get("Suites", "").split())
            and "main" in stanza.get("Components", "").split()
            and (not key or f"{distribution}-archive" in key or "BEGIN PGP" in key)
        ):
            return stanza
    return None


def host_archive(etc_apt: Path = ETC_APT, os_release: Path = OS_RELEASE) -> Archive | None:
    """The archive of this host's distribution; None where there is none to build on."""
    if not all(shutil.which(tool) for tool in TOOLS):
        return None
    release = _read_release(os_release)
    distribution = release.get("ID", "")
    if distribution not in ("debian", "ubuntu"):
        return None
    stanzas: list[Stanza] = []
    parts = etc_apt / "sources.list.d"
    for path in sorted(parts.glob("*.sources")):
        stanzas += parse_stanzas(path.read_text())
    for path in [etc_apt / "sources.list", *sorted(parts.glob("*.list"))]:
        if path.is_file():
            stanzas += parse_one_line(path.read_text())
    codename = release.get("VERSION_CODENAME", "")
    stanza = main_stanza(stanzas, distribution, codename)
    return Archive(distribution, codename, stanza) if stanza else None


def _read_release(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.partition("=") for line in lines)
    return {name: value.strip("\"'") for name, _, value in pairs if value}


class Apt:
    """apt with private state in `folder`, looking at one suite."""

    def __init__(self, folder: Path, archive: Archive, suite: str) -> None:
        self._folder = folder
        self._suite = suite
        self.archives = folder / "debs"
        for part in ("lists/partial", "cache/archives/partial", "debs"):
            (folder / part).mkdir(parents=True)
        (folder / "status").touch()  # empty: every dependency is resolved, whatever the host has installed
        (folder / "suite.sources").write_text(archive.sources(suite))
        (folder / "apt.conf").write_text(_configuration(folder))

    def update(self) -> None:
        """Read the suite's index (about 10 MB)."""
        self._run("update", "-q")

    def resolve(self, names: Sequence[str]) -> list[Package]:
        """Everything that installing `names` on an empty system would unpack."""
        return parse_inst(self._run("install", "-q", "--simulate", *names))

    def download(self, packages: Iterable[Package]) -> list[Path]:
        """Fetch the packages, signatures checked; their files."""
        self._run("download", "-q", *(f"{package.name}={package.version}" for package in packages))
        return sorted(self.archives.glob("*.deb"))

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            ["apt-get", "-c", str(self._folder / "apt.conf"), *arguments],
            cwd=self.archives,
            env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        # apt ends with 0 when an index could not be fetched and an older one exists, but warns.
        if done.returncode != 0 or "Failed to fetch" in done.stderr:
            said = [line for line in done.stderr.splitlines() if line.startswith(("E:", "W:"))]
            raise CannotInstall(f"apt-get {arguments[0]} ({self._suite}) failed: {(said or ['no reason given'])[-1]}")
        return done.stdout


def _configuration(folder: Path) -> str:
    values = {
        "Dir::State": folder,
        "Dir::State::status": folder / "status",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "Dir::Cache::archives": folder / "cache/archives",
        "Dir::Log": folder,
        "Dir::Etc::sourcelist": folder / "suite.sources",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Debug::NoLocking": "true",
        "APT::Sandbox::User": "",
        "APT::Install-Recommends": "false",
        "Acquire::Languages": "none",
        "Acquire::Retries": "2",
        "Acquire::http::Timeout": "30",
    }
    lines = [f'{name} "{value}";' for name, value in values.items()]
    # The host's hooks are for its own state: one restarts a service, another reads an index that isn't ours.
    hooks = ("APT::Update::Pre-Invoke", "APT::Update::Post-Invoke", "APT::Update::Post-Invoke-Success")
    lines += [f"#clear {hook};" for hook in hooks]
    return "\n".join(lines) + "\n"
