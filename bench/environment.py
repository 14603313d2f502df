"""What a run ran on: the machine, the versions, the exact command. Nothing secret is among it."""

import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import psutil

from bench.stores.url import hide_password

_PACKAGES = (
    "trackbench", "mlflow", "asyncpg", "aiomysql", "aiosqlite", "uvloop", "numpy", "locust", "httpx", "sqlalchemy",
    "psycopg2-binary", "pymysql",
)  # fmt: skip


def facts(scratch: Path) -> dict[str, str]:
    """The machine and the software; ``scratch`` is where the stores' files lie."""
    memory = psutil.virtual_memory()
    return {
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}",
        "distribution": _distribution(),
        "processor": _processor(),
        "cores": str(psutil.cpu_count() or 0),
        "memory": f"{memory.total / 2**30:.1f} GiB",
        "file system of the stores": _file_system(scratch),
        "load average at the start": ", ".join(f"{load:.2f}" for load in os.getloadavg()),
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
        "git revision": _git_revision(),
    }


def command_line() -> str:
    """The command as typed, with the passwords of URLs taken out."""
    words = [Path(sys.argv[0]).name, *sys.argv[1:]]
    return shlex.join(hide_password(word) for word in words)


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    except OSError:
        return "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _file_system(folder: Path) -> str:
    mounts = [part for part in psutil.disk_partitions(all=True) if folder.is_relative_to(part.mountpoint)]
    best = max(mounts, key=lambda part: len(part.mountpoint), default=None)
    return f"{best.fstype} ({best.mountpoint})" if best else "unknown"


def _git_revision() -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"
