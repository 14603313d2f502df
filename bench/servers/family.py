"""All processes that descend from one: found through /proc, signalled, and stopped in a way that nothing outlives.

Standard library only: the supervisor imports it, which is a script. Where there is no /proc, nobody is found.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Set
from contextlib import suppress
from pathlib import Path

FREEZE_SECONDS = 2.0  # for what takes milliseconds
_LOOKS = 5  # at the table of processes; where others' are hidden, parents are always missing
# Stopped by signal or by a tracer; ended, ending; in the midst of a disk's work or of a vfork, after which it stops.
_STOPPED = "TtZXD"
# It learns of each process before that is stopped, and has all of them go on when its input ends, however it does.
_LET_GO_ON = 'while read -r pid; do pids="$pids $pid"; done; kill -CONT $pids'


def can_be_found() -> bool:
    """Whether this system shows its processes."""
    return Path("/proc/self/stat").exists()


def of(ancestor: int, spared: Set[int] = frozenset()) -> set[int]:
    """The children of ``ancestor``, theirs, and so on; without those ``spared`` (whose children are not looked for).

    It holds orphans too if ``ancestor`` is a subreaper. Whoever is born meanwhile may be missing: ask again.
    """
    parents = _parents()
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    found: set[int] = set()
    fresh = [ancestor]
    while fresh:
        fresh = [pid for parent in fresh for pid in children.get(parent, ()) if pid not in spared]
        found.update(fresh)
    return found


def send(pids: Set[int], number: int) -> None:
    """Send a signal to each; those that are gone don't mind, nor those that are none of ours."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


class Ice:
    """Descendants of this process that don't run until `melt`, or until this process is gone, if by kill -9.

    A stopped process gets no signal but SIGKILL: neither the one that a dead parent sends, nor a request to end.
    So a small helper waits for the end of this process, and lets the others go on.
    """

    def __init__(self) -> None:
        read, self._write = os.pipe()  # nobody inherits it, so its end is ours
        try:
            self.helper = subprocess.Popen(
                ["/bin/sh", "-c", _LET_GO_ON],
                stdin=read,
                stdout=subprocess.DEVNULL,  # whoever reads ours must see their end
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,  # a signal to our process group spares it
            )
        except OSError:
            os.close(self._write)
            raise
        finally:
            os.close(read)
        self._told: set[int] = set()

    def freeze(self) -> None:
        """Stop them all, those too that are born meanwhile; returns when none runs, or after `FREEZE_SECONDS`."""
        limit = time.monotonic() + FREEZE_SECONDS
        stopped: set[int] = set()
        # All whom one look shows had stopped before it: so nobody could be born or lose its parent since.
        while not (members := self._members()) <= stopped and time.monotonic() < limit:
            fresh = members - self._told
            os.write(self._write, "".join(f"{pid}\n" for pid in fresh).encode())
            self._told |= fresh
            send(fresh, signal.SIGSTOP)
            stopped = {pid for pid in members if _is_stopped(pid)}
            if stopped != members:
                time.sleep(0.002)

    def melt(self) -> None:
        """Let them go on, and end the helper."""
        os.close(self._write)
        self.helper.wait()
        send(self._members(), signal.SIGCONT)  # by ourselves too: somebody may have killed the helper

    def _members(self) -> set[int]:
        return of(os.getpid(), {self.helper.pid})


def _parents() -> dict[int, int]:
    """The parent of each process. Looks again if one ended between two looks: its children have another by now."""
    found: dict[int, int] = {}
    for _ in range(_LOOKS):
        found = {int(entry.name): int(fields[1]) for entry in _entries("/proc") if (fields := _stat(entry / "stat"))}
        if found.keys() >= set(found.values()) - {0}:  # 0: beyond what this process may see
            break
    return found


def _is_stopped(pid: int) -> bool:
    """Whether no thread of it runs; so it is with those that are gone."""
    states = (_stat(thread / "stat") for thread in _entries(f"/proc/{pid}/task"))
    return all(fields[0] in _STOPPED for fields in states if fields)


def _entries(folder: str) -> list[Path]:
    with suppress(OSError):
        return [entry for entry in Path(folder).iterdir() if entry.name.isdigit()]
    return []


def _stat(path: Path) -> list[str]:
    """State, parent and so on; empty if it is gone. The name before them may hold anything."""
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return []
