"""What Locust's options ask for; what may be a password never stands in them."""

import argparse
from types import SimpleNamespace
from typing import Any

import pytest

from bench.errors import BadInput
from loadtests import _arguments


class Parser(argparse.ArgumentParser):
    """Takes what Locust's own parser takes."""

    def add_argument(self, *names: Any, **given: Any) -> Any:
        for ours in ("env_var", "include_in_web_ui"):
            given.pop(ours, None)
        return super().add_argument(*names, **given)


def parsed(*words: str) -> Any:
    parser = Parser()
    _arguments.add(parser)
    return parser.parse_args(words)


def read(*words: str, host: str | None = None) -> _arguments.Options:
    return _arguments.read(parsed(*words), host)


def test_nothing_given_is_a_private_sqlite_and_the_gate() -> None:
    options = read()
    assert (options.store, options.url, options.tracking_url, options.scenario) == ("sqlite", None, None, "ci")
    assert (options.warmup_s, options.seed, options.out) == (None, None, "results")
    assert (options.rate, options.arrivals) == (None, "poisson")  # a closed loop


def test_a_rate_makes_an_open_loop() -> None:
    options = read("--rate", "150", "--arrivals", "constant")
    assert (options.rate, options.arrivals) == (150.0, "constant")
    assert read("--rate", "0.5").rate == 0.5


@pytest.mark.parametrize("words", [("--rate", "0"), ("--rate", "-1"), ("--rate", "nan"), ("--rate", "fast")])
def test_a_rate_that_is_none_is_refused(words: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed(*words)
    assert "must be a number from 0.01 to 1000000" in capsys.readouterr().err


def test_passwords_never_stand_in_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKING", "https://ann:s3cret@mlflow.example/base/")
    for words, host in (
        (
            ("--store", "postgresql=postgresql://ann:s3cret@db/mlflow", "--tracking-url", "http://ann:s3cret@host:1"),
            None,
        ),
        (("--tracking-url", "env:TRACKING"), None),
        ((), "http://ann:s3cret@host:1/"),
    ):
        found = parsed(*words)
        shown = [*map(str, vars(found).values()), _arguments.without_login(host) if host else ""]
        assert not [text for text in shown if "s3cret" in text]
        options = _arguments.read(found, shown[-1] or None)
        assert options.tracking_url is not None
        assert "ann:s3cret@" in options.tracking_url
    assert read("--store", "postgresql=postgresql://ann:s3cret@db/mlflow").url == "postgresql://ann:s3cret@db/mlflow"


def test_a_url_from_the_environment_is_that_of_its_store_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(_arguments.URL_VARIABLE, "postgresql://ann:s3cret@db/mlflow")
    assert read("--store", "timescaledb").url == "postgresql://ann:s3cret@db/mlflow"
    assert read("--store", "sqlite").url is None
    monkeypatch.setenv(_arguments.URL_VARIABLE, "s3cret")
    with pytest.raises(BadInput, match="unknown scheme") as caught:
        read("--store", "sqlite")
    assert "s3cret" not in str(caught.value)


FORM = {
    "store": ("nothing", "no store"),
    "store ": ("postgresql=postgresql://ann:s3cret@db/mlflow", "plain name of a store"),
    "tracking_url": ("nowhere", "not the URL of a server"),
    "tracking_url ": ("env:SECRET", "not the URL of a server"),  # a variable is the command line's to name
    "scenario": ("nothing", "no scenario"),
    "warmup": ("soon", "must be a number"),
    "seed": ("-1", "must be a number"),
    "rate": ("0", "must be a number from 0.01"),
    "arrivals": ("daily", "use one of constant, poisson"),
}


@pytest.mark.parametrize("field", FORM)
def test_what_the_form_says_is_checked_too(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value, message = FORM[field]
    monkeypatch.setenv("SECRET", "http://host:1")
    with pytest.raises(BadInput, match=message) as caught:
        _arguments.read(SimpleNamespace(**{**vars(parsed()), field.strip(): value}), None)
    assert "s3cret" not in str(caught.value)


def test_a_variable_that_holds_no_url_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SECRET", "s3cret")
    with pytest.raises(SystemExit):
        parsed("--tracking-url", "env:SECRET")
    assert "s3cret" not in capsys.readouterr().err


@pytest.mark.parametrize("text", ["http://ann:s3cret@host:port", "ftp://ann:s3cret@host", "http://"])
def test_a_bad_tracking_url_is_refused_without_its_password(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed("--tracking-url", text)
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert "not the URL of a server" in said
    assert "s3cret" not in said
