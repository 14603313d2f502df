"""Reports: a run's results rendered for a browser, a CI summary, a CI server and a terminal."""

from collections.abc import Callable
from pathlib import Path

from bench.results import Results


def write_all(results: Results, folder: Path) -> list[Path]:
    """Write ``report.html``, ``report.md`` and ``junit.xml`` into ``folder``, each in one step; return their paths."""
    from reports.html import render as html
    from reports.junit import render as junit
    from reports.markdown import render as markdown

    formats: dict[str, Callable[[Results], str]] = {
        "report.html": html,
        "report.md": markdown,
        "junit.xml": junit,
    }
    return [_replace(folder / name, render(results)) for name, render in formats.items()]


def _replace(path: Path, text: str) -> Path:
    draft = path.with_name(f".{path.name}.tmp")
    draft.write_text(text, encoding="utf-8")
    return draft.replace(path)
