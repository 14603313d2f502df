"""Trackbench's own arguments beside Locust's, and what they ask for.

What may hold a password (a store's URL, a tracking server's) is kept here by the name that stands for it, so that
Locust's options, which its pages and its messages to workers show, never hold it.
"""

import argparse
import os
from dataclasses import dataclass
from typing import Any, cast, get_args
from urllib.parse import urlsplit, urlunsplit

from bench import arrivals, scenario, scenario_rules
from bench.errors import BadInput
from bench.stores import NAMES
from bench.stores.url import from_option, hide_password, parse

DEFAULT_SCENARIO = "ci"
URL_VARIABLE = "TRACKBENCH_STORE_URL"
MAX_USERS = scenario_rules.MAX_WRITERS
MIN_RATE, MAX_RATE = 0.01, 1_000_000  # operations a second; of fewer none may be due in a whole test

_secrets: dict[str, str] = {}  # what stands in an option -> what was meant


@dataclass(frozen=True)
class Options:
    """What the user asked of Trackbench. ``url`` is the store's, as given; both URLs may hold passwords.

    ``rate`` is in operations a second, None in a closed loop.
    """

    scenario: str
    store: str
    url: str | None
    tracking_url: str | None
    warmup_s: float | None
    out: str
    seed: int | None
    rate: float | None
    arrivals: arrivals.Kind


def add(parser: Any) -> None:
    """Add the arguments to Locust's parser; on a group of it they would never show in the web interface."""
    parser.add_argument(
        "--store",
        type=_store,
        choices=NAMES,
        default="sqlite",
        env_var="TRACKBENCH_STORE",
        help=f"The store under test, a private one; on the command line also NAME=URL, NAME=env:VAR, or {URL_VARIABLE}"
        " in the environment.",
    )
    parser.add_argument(
        "--tracking-url",
        type=_tracking_url,
        default="",
        env_var="TRACKBENCH_TRACKING_URL",
        help="A tracking server of yours, as --host; without it HTTP users get a private one on the store.",
    )
    parser.add_argument(
        "--scenario",
        default=DEFAULT_SCENARIO,
        env_var="TRACKBENCH_SCENARIO",
        help=f"Where workload, prefill, settings and criteria come from: {', '.join(scenario.known())}, or a file.",
    )
    parser.add_argument(
        "--shape",
        choices=("none", "ladder", "spike", "soak"),
        default="none",
        env_var="TRACKBENCH_SHAPE",
        include_in_web_ui=False,  # Locust's own list of shapes is there
        help="How the number of users changes; it scales with -u and -t.",
    )
    parser.add_argument(
        "--warmup",
        default="",
        type=_warmup,
        env_var="TRACKBENCH_WARMUP",
        help="Seconds after the last user started until measuring begins; the scenario's if not given.",
    )
    parser.add_argument(
        "--rate",
        default="",
        type=_rate,
        env_var="TRACKBENCH_RATE",
        help="Operations a second over all users and workers, due by a schedule that no answer delays (an open loop):"
        " response times count from it, and -u limits what is in flight. Empty: each user waits for its answer.",
    )
    parser.add_argument(
        "--arrivals",
        choices=get_args(arrivals.Kind),
        default="poisson",
        env_var="TRACKBENCH_ARRIVALS",
        help="With --rate: operations are due at random, or at equal distances.",
    )
    parser.add_argument(
        "--out",
        default="results",
        env_var="TRACKBENCH_OUT",
        include_in_web_ui=False,
        help="Folder that gets the run's own folder; master and workers share it, at the same path.",
    )
    parser.add_argument("--seed", default="", type=_seed, env_var="TRACKBENCH_SEED", help="Seed of all written values.")


def read(parsed: Any, host: str | None) -> Options:
    """What Locust's options ask for; ``host`` is Locust's own (``--host``), which names the tracking server too.

    Raises:
        BadInput: a value that can't be, or two that don't go together.
    """
    store = str(parsed.store)
    if "=" in store:  # from the command line, the parser has kept the URL, and left the name
        raise BadInput("the web interface takes the plain name of a store; give its URL on the command line")
    store = _checked(_store, store)
    tracking = _checked(_server, parsed.tracking_url or host or "")
    return Options(
        scenario=_scenario(parsed.scenario),
        store=store,
        url=_secrets.get(f"--store {store}") or _from_environment(store),
        tracking_url=_secrets.get(tracking, tracking) or None,
        warmup_s=float(_checked(_warmup, parsed.warmup)) if parsed.warmup != "" else None,
        out=str(parsed.out),
        seed=int(_checked(_seed, parsed.seed)) if parsed.seed != "" else None,
        rate=float(_checked(_rate, parsed.rate)) if parsed.rate != "" else None,
        arrivals=_arrivals(parsed.arrivals),
    )


def without_login(url: str) -> str:
    """A URL without user and password; the whole one is remembered under it."""
    try:
        parts = urlsplit(url)
    except ValueError:  # no URL, and so no login that would be of use
        return hide_password(url)
    shown = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    if shown != url:
        _secrets[shown] = url
    return shown


def _from_environment(store: str) -> str | None:
    """The URL in the environment, if it is one of this store: another one may be picked in the web interface."""
    url = os.environ.get(URL_VARIABLE)
    if not url:
        return None
    parse(url)  # refuses what is none
    try:
        parse(url, store)
    except BadInput:
        return None
    return url


def _checked(check: Any, value: object) -> str:
    """Check a value that may have come from the web interface, which checks none."""
    try:
        return str(check(str(value)))
    except argparse.ArgumentTypeError as error:
        raise BadInput(str(error)) from error


def _store(text: str) -> str:
    name, given, value = text.partition("=")
    if name not in NAMES:
        shown = repr(name) if name.isalnum() else "what was given"  # perhaps a URL: not to be repeated
        raise argparse.ArgumentTypeError(f"--store: {shown} is no store; use one of {', '.join(NAMES)}, or NAME=URL")
    if given:
        try:
            from_option(name, value)
        except BadInput as error:
            raise argparse.ArgumentTypeError(str(error)) from error
        _secrets[f"--store {name}"] = value
    return name


def _tracking_url(text: str) -> str:
    """The option on the command line; only there may it name a variable of the environment."""
    if text.startswith("env:"):
        variable = text.removeprefix("env:")
        text = os.environ.get(variable, "")
        if not text:
            raise argparse.ArgumentTypeError(f"--tracking-url env:{variable}: {variable} is not set; export it")
    return _server(text)


def _server(text: str) -> str:
    if not text:
        return ""
    try:
        parts = urlsplit(text)
        ok = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        ok = False
    if not ok:
        # Whatever it is, it may be secret: a variable's value, or a URL whose password can't be told from the rest.
        raise argparse.ArgumentTypeError("--tracking-url: not the URL of a server; write http://host:port")
    return without_login(text.rstrip("/"))


def _scenario(text: object) -> str:
    name = str(text) or DEFAULT_SCENARIO
    scenario.load(name)  # refuses what is none
    return name


def _warmup(text: str) -> str:
    return _number("--warmup", text, float, 3600)


def _seed(text: str) -> str:
    return _number("--seed", text, int, 2**63 - 1)


def _rate(text: str) -> str:
    return _number("--rate", text, float, MAX_RATE, least=MIN_RATE)


def _arrivals(text: object) -> arrivals.Kind:
    for kind in get_args(arrivals.Kind):
        if text == kind:
            return cast(arrivals.Kind, kind)
    raise BadInput(f"--arrivals {text!r}: use one of {', '.join(get_args(arrivals.Kind))}")


def _number(what: str, text: str, kind: type[float] | type[int], most: int, least: float = 0) -> str:
    try:
        good = not text or least <= kind(text) <= most  # NaN is neither
    except ValueError:
        good = False
    if not good:
        raise argparse.ArgumentTypeError(f"{what} {text!r}: must be a number from {least:g} to {most}")
    return text
