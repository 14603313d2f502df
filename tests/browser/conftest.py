"""A real Chromium, headless, that talks to nobody but us."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "servers"))

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_QUIET = (
    "--no-sandbox",  # root has no other way, and every page is ours
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@pytest.fixture(scope="module")  # its event loop runs until it ends, and other tests start loops of their own
def browser() -> Iterator[Browser]:
    """The system's Chromium."""
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium here; on Debian: apt-get install -y chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=list(_QUIET))
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def public_tmp() -> Iterator[Path]:
    """A folder for what Locust starts."""
    folder = Path(tempfile.mkdtemp(prefix="tests-of-trackbench-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)
