"""Numbers as people read them: three significant digits, a unit, and a dash where nothing was measured."""

import math
from collections.abc import Callable
from typing import Final

NOT_MEASURED: Final = "–"
SYMBOLS: Final = {"pass": "✓", "fail": "✗", "inconclusive": "?"}
_PREFIXES: Final = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def rounded(value: float, digits: int = 3) -> float:
    """``value`` with ``digits`` significant digits."""
    return float(f"{value:.{digits - 1}e}")


def significant(value: float | None, digits: int = 3) -> str:
    """``value`` with at most ``digits`` significant digits, never in exponent notation below 10^15."""
    if value is None or math.isnan(value):
        return NOT_MEASURED
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    near = rounded(value, digits)
    if near == 0:
        return "0"
    if not 1e-9 <= abs(near) < 1e15:
        return f"{near:.{digits}g}"
    places = max(0, digits - 1 - math.floor(math.log10(abs(near))))
    text = f"{near:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def duration(ms: float | None) -> str:
    """A latency given in milliseconds: ``456 µs``, ``1.23 ms``, ``456 ms``, ``1.4 s``."""
    if ms is None or not math.isfinite(ms):
        return significant(ms)
    near = rounded(ms)
    if near == 0:
        return "0 ms"
    if abs(near) < 1:
        return f"{significant(ms * 1000)} µs"
    if abs(near) < 1000:
        return f"{significant(ms)} ms"
    return f"{significant(ms / 1000)} s"


def rate(value: float | None, unit: str = "/s") -> str:
    """Something per second: ``102/s``, ``12.3 k/s``."""
    if value is None or not math.isfinite(value):
        return significant(value)
    near = rounded(value)
    for size, prefix in _PREFIXES:
        if abs(near) >= size:
            return f"{significant(value / size)} {prefix}{unit}"
    return f"{significant(value)}{unit}"


def count(value: int | float | None) -> str:
    """A count: exact, with thousands separated."""
    if value is None or not math.isfinite(value):
        return significant(value)
    return f"{int(value):,}" if float(value).is_integer() else significant(value)


def share(value: float | None) -> str:
    """A share as a percentage; one that falls short of everything is never rounded up to 100 %."""
    if value is None or not math.isfinite(value):
        return significant(value)
    if not 0.5 < value < 1:
        return f"{significant(value * 100)} %"
    missing = (1 - value) * 100
    places = min(8, max(0, 1 - math.floor(math.log10(missing))))
    floored = math.floor(value * 100 * 10**places) / 10**places
    return f"{significant(floored, places + 2)} %"


def percent(value: float) -> str:
    """A spread in whole percent; below one it is noise of noise."""
    return "under 1 %" if value < 0.01 else f"{round(value * 100)} %"


def apart(ratio: float | None) -> str:
    """How far a ratio lies from 1, with its sign: ``+1.2 %``, ``-34 %``, or ``× 4.3`` where it is far away."""
    if ratio is None or not math.isfinite(ratio):
        return significant(ratio)
    if ratio > 3:
        return f"× {significant(ratio)}"
    text = significant((ratio - 1) * 100, 2)
    return f"{text if text.startswith('-') or text == '0' else f'+{text}'} %"


def span(seconds: float) -> str:
    """How long a run took: ``42 s``, ``12 min 5 s``, ``2 h 3 min``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def quantity(value: float | None, unit: str) -> str:
    """A criterion's measured value in its own unit."""
    if value is None or not math.isfinite(value):
        return significant(value)
    kind = unit.strip().lower()
    if kind in _FORMATS:
        return _FORMATS[kind](value)
    if kind.endswith("/s"):
        return rate(value, f" {unit.strip()}")
    number = count(value) if float(value).is_integer() else significant(value)
    return f"{number} {unit.strip()}".rstrip()


def interval(bounds: tuple[float, float] | None, unit: str) -> str:
    """Both ends of an interval in the unit of its value, or an empty text."""
    return "" if bounds is None else f"{quantity(bounds[0], unit)} to {quantity(bounds[1], unit)}"


def printable(text: str) -> str:
    """``text`` without the control characters and lone surrogates that no format may carry."""
    return "".join(character if character in "\n\t" or _is_safe(ord(character)) else "\ufffd" for character in text)


def one_line(text: str) -> str:
    """``text`` printable and on one line."""
    return " ".join(printable(text).split())


def mathematical(text: str) -> str:
    """Comparison signs as they are printed in books."""
    return text.replace("<=", "≤").replace(">=", "≥").replace("==", "=")


def plural(n: int, one: str) -> str:
    """``n`` with its noun in the right number."""
    return f"{count(n)} {one if n == 1 else one + 's'}"


def _is_safe(code: int) -> bool:
    """Whether XML 1.0 and a terminal both accept this code point."""
    if code < 0x20 or 0x7F <= code <= 0x9F:
        return False
    return not (0xD800 <= code <= 0xDFFF or code in (0xFFFE, 0xFFFF))


_FORMATS: Final[dict[str, Callable[[float], str]]] = {
    "ms": duration,
    "s": lambda value: duration(value * 1000),
    "seconds": lambda value: duration(value * 1000),
    "/s": rate,
    **dict.fromkeys(("share", "fraction"), share),
    **dict.fromkeys(("x", "×", "ratio", "times"), lambda value: f"{significant(value)} ×"),
}
