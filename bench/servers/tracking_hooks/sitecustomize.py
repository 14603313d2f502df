"""Python imports this at the start of every process of a tracking server of ours. Standard library only.

It ties each process to its parent, and has the hooks put in once MLflow's application exists (`counting.install`).
"""

import ctypes
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

_APPLICATION = "mlflow.server.fastapi_app"
_PARENT = "TRACKBENCH_PARENT"  # each process tells its children who it is
_PR_SET_PDEATHSIG = 1


class _Finder:
    """Finds MLflow's application once, and has the hooks put in right after it was imported."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """What the import system asks of every finder."""
        if name != _APPLICATION:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def and_install(module: ModuleType) -> None:
                execute(module)
                importlib.import_module("bench.servers.tracking_hooks.counting").install(module)

            spec.loader.exec_module = and_install  # type: ignore[method-assign]
        return spec


def _die_with_parent() -> None:
    """Have the kernel kill this process with its parent: uvicorn's workers would outlive a killed parent."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    parent = os.environ.get(_PARENT)
    os.environ[_PARENT] = str(os.getpid())
    if parent is not None and os.getppid() != int(parent) and _is_gone(int(parent)):
        os._exit(1)  # it was killed before we asked for that


def _is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


_die_with_parent()
if "TRACKBENCH_ERRORS_FILE" in os.environ:
    sys.meta_path.insert(0, _Finder())
