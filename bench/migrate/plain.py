"""What MLflow's client gives, as plain values that can be compared to the bit and named where they differ."""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from collections.abc import Iterator
from enum import Enum
from typing import Any, Final

_NAMED: Final = 5  # of a list's differing items; the rest is counted
_NOTHING: Final = "none"  # where one side has no such value at all

Plain = None | bool | int | float | str | dict[str, Any] | list[Any]
Place = tuple[str, str, str]  # where in a thing, and both sides' values in words


def plain(value: Any) -> Plain:
    """``value`` as dictionaries, lists and scalars: MLflow's entities by what they hold."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(one) for one in value]
    if hasattr(value, "to_dict"):  # of a span, whose state is more than what is stored
        return plain(value.to_dict())
    if hasattr(value, "__dict__"):
        return {name.removeprefix("_"): plain(one) for name, one in vars(value).items()}
    return f"{type(value).__name__}: {value}"


def differing(here: Plain, there: Plain, where: str = "") -> Iterator[Place]:
    """Where two plain values differ. The order of lists does not count: MLflow's statements often leave it open."""
    if isinstance(here, dict) and isinstance(there, dict):
        for key in [*here, *(key for key in there if key not in here)]:
            place = f"{where}.{key}" if where else key
            if key not in here or key not in there:
                yield (
                    place,
                    words(here[key]) if key in here else _NOTHING,
                    words(there[key]) if key in there else _NOTHING,
                )
            else:
                yield from differing(here[key], there[key], place)
    elif isinstance(here, list) and isinstance(there, list):
        yield from _items(Counter(map(words, here)), Counter(map(words, there)), where)
    elif words(here) != words(there):
        yield where, words(here), words(there)


def _items(here: Counter[str], there: Counter[str], where: str) -> Iterator[Place]:
    missing, extra = (here - there), (there - here)
    yield from ((where, text, _NOTHING) for text in sorted(missing)[:_NAMED])
    yield from ((where, _NOTHING, text) for text in sorted(extra)[:_NAMED])
    more = sum(missing.values()) + sum(extra.values()) - min(len(missing), _NAMED) - min(len(extra), _NAMED)
    if more > 0:
        yield where, f"{here.total()} in all", f"{there.total()} in all, {more} more of them differ"


def words(value: Plain) -> str:
    """A value so that different values never look alike: doubles by their bits, −0.0 as 0.0, every NaN as one."""
    if isinstance(value, float):
        if math.isnan(value):
            return "nan"
        return repr(struct.unpack(">d", struct.pack(">d", value + 0.0))[0])
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {words(one)}" for key, one in sorted(value.items())) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(sorted(map(words, value))) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return "NULL" if value is None else repr(value)
