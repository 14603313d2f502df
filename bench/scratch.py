"""A private folder that disappears with its owner, also when the owner is killed -9."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.servers import places

# Waits for the end of its stdin, which comes when the owner ends in whatever way, then removes the folder.
_REAPER = 'cat >/dev/null; chmod -R u+w -- "$0"; rm -rf -- "$0"'


@contextmanager
def scratch_folder(what: str) -> Iterator[Path]:
    """A new folder beside the servers' own folders, so that every store lies on the same file system."""
    folder = places.new_folder(what)
    with subprocess.Popen(
        ["/bin/sh", "-c", _REAPER, str(folder)], stdin=subprocess.PIPE, start_new_session=True
    ) as reaper:
        folder.mkdir(mode=0o700)
        yield folder
        assert reaper.stdin is not None
        reaper.stdin.close()
        reaper.wait()
