"""Makes the stores of this folder anew: ``python make.py [FOLDER]``, with the network, in about two minutes.

Each is written by an old MLflow in an environment of its own, and kept as JSON: of a SQLite file the schema's
statements and the rows (a float's shortest digits read back to the same bits, which SQLite's own dump does not
promise), of a file store each file's text.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
OLDEST, LATE, FIRST_AUTH = "2.0.1", "2.22.0", "2.5.0"  # the last has the first authentication database
_WITH = ["setuptools<81", "numpy<2", "pandas<3", "sqlalchemy<2.1", "werkzeug==3.1.3"]
STORES = {
    f"tracking-{OLDEST}": (OLDEST, "tracking"),
    f"tracking-{LATE}": (LATE, "tracking"),
    f"files-{OLDEST}": (OLDEST, "files"),
    f"files-{LATE}": (LATE, "files"),
    f"auth-{FIRST_AUTH}": (FIRST_AUTH, "auth"),
    "auth-ours": (None, "auth"),
}


def make(name: str, folder: Path) -> Any:
    """What the store ``name`` holds, written in ``folder``, which must be empty."""
    version, kind = STORES[name]
    python = Path(sys.executable) if version is None else _environment(version, folder / "environment")
    (folder / "cwd").mkdir()
    path = folder / "store"
    done = subprocess.run(
        [python, HERE / "write.py", kind, path],
        cwd=folder / "cwd",
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{name}: {done.stderr[-2000:]}")
    held: Any = _files(path) if kind == "files" else _database(path)
    return json.loads(json.dumps(held).replace(str(folder), "/srv"))


def _environment(version: str, folder: Path) -> Path:
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, folder], check=True)
    python = folder / "bin" / "python"
    subprocess.run([uv, "pip", "install", "-q", "--python", python, f"mlflow=={version}", *_WITH], check=True)
    return python


def _database(path: Path) -> dict[str, Any]:
    with closing(sqlite3.connect(path)) as connection:
        made = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        tables = [name for sort, name, _ in made if sort == "table"]
        statements = [text for sort, _, text in made if sort == "table"]
        statements += sorted(text for sort, _, text in made if sort != "table")  # MLflow's order is that of a set
        rows = {table: [list(row) for row in connection.execute(f'SELECT * FROM "{table}"')] for table in tables}
        return {"schema": statements, "rows": {table: some for table, some in rows.items() if some}}


def _files(folder: Path) -> dict[str, str]:
    texts = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            texts[str(path.relative_to(folder))] = path.read_bytes().decode()
    return texts


def written(held: Any) -> str:
    """``held`` as text, a row or a file a line, so that a change can be read."""
    if "schema" not in held:
        return json.dumps(held, ensure_ascii=False, indent=0) + "\n"
    tables = []
    for table, rows in held["rows"].items():
        lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        tables.append(f"{json.dumps(table)}: [\n{lines}\n]")
    schema = json.dumps(held["schema"], ensure_ascii=False, indent=0)
    return f'{{"schema": {schema},\n"rows": {{{", ".join(tables)}}}}}\n'


def main(folder: Path) -> None:
    for name in STORES:
        with tempfile.TemporaryDirectory() as scratch:
            (folder / f"{name}.json").write_text(written(make(name, Path(scratch))))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
