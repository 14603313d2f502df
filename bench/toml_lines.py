"""In which line of a TOML text a key stands."""

import re

KeyPath = tuple[str | int, ...]
_HEADER = re.compile(r"\s*\[(\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?")
_KEY = re.compile(r"\s*([\w.\-\"']+)\s*=")


def place(text: str, where: str, path: KeyPath) -> str:
    """``file:line`` of the deepest part of a key's path that has a line of its own, else the file alone."""
    wanted = [str(part) for part in path]
    tables: dict[str, int] = {}
    table: list[str] = []
    best, line_of_best = 0, 0
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.fullmatch(line):
            table = [part.strip(" \"'") for part in header[2].split(".")]
            if header[1]:  # an array of tables: its elements are counted
                tables[header[2]] = tables.get(header[2], -1) + 1
                table.append(str(tables[header[2]]))
            here = table
        elif key := _KEY.match(line):
            here = [*table, *(part.strip("\"'") for part in key[1].split("."))]
        else:
            continue
        if len(here) > best and here == wanted[: len(here)]:
            best, line_of_best = len(here), number
    return f"{where}:{line_of_best}" if best else where
