"""Source: Docker Compose with official images, where a Docker daemon answers.

The supervisor's child is a `docker compose up` in the foreground, so everything else is as with other sources.
Limits: `pid` is that client's, whom to stop or freeze would say nothing of the server (`kill` goes through Docker);
and if the supervisor is killed with SIGKILL, the client is told to stop the
containers but nobody removes their volumes (`docker compose ls` shows the project).
"""

from __future__ import annotations

import functools
import json
import os
import re
import secrets
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from bench.servers.base import CannotInstall, Echo, Kind, Offer, ServerFailed, output_of
from bench.servers.launch import Launch, settings_for
from bench.servers.running import RunningServer

FILE = Path(__file__).parents[2] / "docker-compose.bench.yml"
SERVICES: tuple[Kind, ...] = ("postgresql", "timescaledb", "mysql")
_OLDEST_COMPOSE = (2, 23, 1)
_SETTINGS_FILE = "settings.json"  # a compose file too: JSON is YAML
_DUMMY = {"TRACKBENCH_PASSWORD": "unused"}  # commands that start nothing must pass the file's check


class ComposeSource:
    """Servers in containers."""

    name = "compose"

    def offer(self, kind: Kind) -> Offer | None:
        """See `Source`."""
        if kind not in SERVICES or not FILE.is_file() or not daemon():
            return None
        found = compose_version()
        if found is None or found < _OLDEST_COMPOSE:
            wanted = ".".join(map(str, _OLDEST_COMPOSE))
            return Offer(kind, self.name, False, None, f"Docker Compose {wanted} or newer is missing", None)
        image = _image(kind)
        if output_of(["docker", "image", "inspect", "--format", "{{.Id}}", image]):
            return Offer(kind, self.name, True, image.rpartition(":")[2], f"Docker image {image}", None)
        remedy = f"trackbench servers install {kind}"
        return Offer(kind, self.name, False, None, f"Docker image {image}, not yet pulled", remedy)

    def install(self, kind: Kind, echo: Echo) -> None:
        """Pull the image (Docker itself makes that safe to repeat and to interrupt)."""
        echo(f"{kind}: pulling {_image(kind)}")
        done = subprocess.run(
            ["docker", "compose", "-f", str(FILE), "pull", "--quiet", kind],
            env={**os.environ, **_DUMMY},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise CannotInstall(f"{kind}: docker compose pull failed: {done.stderr.strip()[-200:]}")

    def start(self, kind: Kind, folder: Path, settings: Mapping[str, str], disk_mb: int | None = None) -> RunningServer:
        """See `Source`."""
        if disk_mb is not None:
            raise ServerFailed(f"{kind}: a server in a container gets no small disk from us")
        password = secrets.token_urlsafe(18)
        launch = launch_of(kind, folder, settings, password)
        return RunningServer(kind, self.name, launch, folder, password)


def launch_of(kind: Kind, folder: Path, overrides: Mapping[str, str], password: str) -> Launch:
    """How the supervisor runs the project; the password goes by environment."""
    compose = ["docker", "compose", "-p", folder.name.lower(), "-f", str(FILE), "-f", str(folder / _SETTINGS_FILE)]
    command = _command(kind, settings_for(kind, overrides))

    def serve(port: int) -> tuple[list[str], dict[str, str]]:
        up = [*compose, "up", "--no-color", "--abort-on-container-exit", kind]
        return up, {f"TRACKBENCH_{kind.upper()}_PORT": str(port)}

    return Launch(
        serve=serve,
        files={_SETTINGS_FILE: json.dumps({"services": {kind: {"command": command}}})},
        env={**os.environ, "TRACKBENCH_PASSWORD": password},
        after=[[*compose, "down", "--volumes", "--timeout", "10"]],
        kill=[*compose, "kill", "--signal", "SIGKILL", kind],
        stop_seconds=45.0,
        death_signal=signal.SIGTERM,  # the client then stops the containers
        as_server_user=False,
        untouchable="the server is in a container, where we reach its client's process only",
    )


def _command(kind: Kind, settings: Mapping[str, str]) -> list[str]:
    if kind == "mysql":
        return ["mysqld", *(f"--{name}={value}" for name, value in settings.items())]
    return ["postgres", *(part for name, value in settings.items() for part in ("-c", f"{name}={value}"))]


def _image(kind: Kind) -> str:
    """The image of a service: the environment's, else the one pinned in the compose file."""
    variable = f"TRACKBENCH_{kind.upper()}_IMAGE"
    pinned = re.search(rf"\$\{{{variable}:-([^}}]+)\}}", FILE.read_text())
    return os.environ.get(variable) or (pinned[1] if pinned else "")


@functools.cache
def daemon() -> str | None:
    """The version of the Docker daemon, or None if none answers quickly."""
    return output_of(["docker", "version", "--format", "{{.Server.Version}}"], timeout=5) or None


@functools.cache
def compose_version() -> tuple[int, ...] | None:
    """The version of the Compose plugin."""
    numbers = re.search(r"(\d+)\.(\d+)\.(\d+)", output_of(["docker", "compose", "version", "--short"], timeout=5))
    return tuple(int(number) for number in numbers.groups()) if numbers else None
