"""Store URLs: what MLflow would make of them, and never a word of the password."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from certificates import issue
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from bench.errors import BadInput
from bench.stores.url import StoreUrl, from_option, hide_password, parse

SERVERS = ("postgresql", "timescaledb", "mysql", "mariadb")
SECRET = "hunter2hunter2"
special = st.characters(exclude_categories=["Cs", "Cc"])
names = st.text(st.characters(codec="ascii", categories=["Ll", "Nd"]) | st.sampled_from("-_ü %+&=#@:"), min_size=1)
texts = st.text(special, min_size=1, max_size=20)
hosts = st.sampled_from(["localhost", "127.0.0.1", "db.example.org", "::1"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://u:p@h/d", StoreUrl("postgresql", None, "h", 5432, "u", "p", "d")),
        ("postgres://u@h:7000/d", StoreUrl("postgresql", None, "h", 7000, "u", "", "d")),
        ("postgresql+psycopg2://h/d", StoreUrl("postgresql", None, "h", 5432, "", "", "d")),
        ("POSTGRESQL://h/d", StoreUrl("postgresql", None, "h", 5432, "", "", "d")),
        ("timescaledb://u:p@h/d", StoreUrl("timescaledb", None, "h", 5432, "u", "p", "d")),
        ("mysql+pymysql://u:p@h/d", StoreUrl("mysql", None, "h", 3306, "u", "p", "d")),
        ("mariadb://u:p@h:1/d", StoreUrl("mariadb", None, "h", 1, "u", "p", "d")),
        ("mysql://[::1]:9/d", StoreUrl("mysql", None, "::1", 9, "", "", "d")),
        ("mysql://u:%40%2F@h/a%20b", StoreUrl("mysql", None, "h", 3306, "u", "@/", "a b")),
        (
            "postgresql://h/d?sslmode=require",
            StoreUrl("postgresql", None, "h", 5432, "", "", "d", (("sslmode", "require"),)),
        ),
        ("sqlite:////srv/mlflow.db", StoreUrl("sqlite", Path("/srv/mlflow.db"))),
        ("sqlite:///mlflow.db", StoreUrl("sqlite", Path("mlflow.db").resolve())),
        ("sqlite:///a/../mlflow.db", StoreUrl("sqlite", Path("mlflow.db").resolve())),
    ],
)
def test_forms(text: str, expected: StoreUrl) -> None:
    assert parse(text) == expected


def test_what_mlflow_is_told() -> None:
    assert parse("sqlite:////srv/a b.db").mlflow == "sqlite:////srv/a b.db"
    assert parse("timescaledb://u:p@h/d").mlflow == "postgresql+psycopg2://u:p@h:5432/d"
    assert parse("mariadb://u:p@h/d?charset=utf8mb4").mlflow == "mysql+pymysql://u:p@h:3306/d?charset=utf8mb4"


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(SERVERS), hosts, st.integers(1, 65535), st.text(special, max_size=10), texts, names,
       st.lists(texts, max_size=1))  # fmt: skip
def test_mlflow_gets_every_part_unchanged(
    store: str, host: str, port: int, user: str, password: str, database: str, values: list[str]
) -> None:
    mysql = store in ("mysql", "mariadb")
    options = [("charset", "utf8mb4") if mysql else ("sslmode", value) for value in values]
    url = StoreUrl(store, None, host, port, user, password if user else "", database, tuple(options))
    seen = make_url(url.mlflow)
    assert (seen.host, seen.port, seen.username or "", seen.password or "", seen.database) == (
        host, port, user, password if user else "", database,
    )  # fmt: skip
    assert dict(seen.query) == dict(options)
    assert seen.drivername == ("mysql+pymysql" if store in ("mysql", "mariadb") else "postgresql+psycopg2")
    again = parse(url.mlflow, store)
    if not database.startswith("/"):
        assert again == url


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """A file with a certificate."""
    path = tmp_path / "our ca.pem"
    path.write_bytes(issue("authority").certificate)
    return path


@pytest.mark.parametrize(
    ("url", "option"),
    [("postgresql://h/d?sslmode=verify-full&sslrootcert={}", "sslrootcert"), ("mysql://h/d?ssl_ca={}", "ssl_ca")],
)
def test_the_authority_of_verified_tls(url: str, option: str, authority: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(authority.parent)
    found = parse(url.format(quote(authority.name)))  # children of ours have folders of their own
    assert found.authority == str(authority)
    assert found.verified
    assert make_url(found.mlflow).query[option] == str(authority)
    assert parse(found.mlflow) == found


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("postgresql://h/d?sslrootcert={ca}", "add sslmode=verify-full"),
        ("postgresql://h/d?sslmode=require&sslrootcert={ca}", "add sslmode=verify-full"),
        ("postgresql://h/d?sslmode=verify-full&sslrootcert={ca}.old", "no such file"),
        ("mysql://h/d?ssl_ca={ca}.old", "no such file"),
        ("mysql://h/d?ssl_ca=/", "can't be read as certificates"),
        ("mysql://h/d?ssl_ca=/etc/hostname", "can't be read as certificates"),
        ("mysql://h/d?sslrootcert={ca}", "only charset, ssl_ca"),
        ("mysql://h/d?charset=latin1", "MySQL gives ? for some characters"),
    ],
)
def test_what_would_not_be_verified_is_refused(url: str, part: str, authority: Path) -> None:
    assert part in refusal(url.format(ca=authority))


@pytest.mark.parametrize("url", ["postgresql://h/d", "postgresql://h/d?sslmode=require", "mysql://h/d", "sqlite:////x"])
def test_other_urls_are_not_verified(url: str) -> None:
    found = parse(url)
    assert not found.verified
    assert found.authority is None


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(SERVERS), st.text(special, min_size=1, max_size=8))
def test_the_password_is_not_shown(store: str, odd: str) -> None:
    url = StoreUrl(store, None, "h", 5432, "u", SECRET + odd, "d")
    assert parse(url.mlflow, store).password == SECRET + odd
    for shown in (str(url), f"{url}", str(replace(url, database="e"))):
        assert SECRET not in shown
        assert ":***@h" in shown


def test_the_password_is_not_in_the_repr_either() -> None:
    """A dataclass's repr ends up in tracebacks, in assertion messages and in the repr of what holds it."""
    assert SECRET not in repr(parse(f"mysql://u:{SECRET}@h/d"))


@pytest.mark.parametrize("option", ["password", "sslpassword", "passwd"])
def test_a_password_among_the_options_is_refused_and_not_shown(option: str) -> None:
    """libpq and PyMySQL take it there; the direct drivers would ignore it."""
    text = f"postgresql://u@h/d?{option}={SECRET}&sslmode=require"
    words = refusal(text)
    assert SECRET not in words
    assert option in words
    assert SECRET not in hide_password(f"--store=postgresql={text}")


def refusal(text: str, store: str | None = None) -> str:
    with pytest.raises(BadInput) as caught:
        parse(text, store)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "unknown scheme"),
        ("h/d", "unknown scheme"),
        ("oracle://u:p@h/d", "unknown scheme 'oracle'"),
        ("postgresql://", "names no host"),
        ("postgresql:///d", "names no host"),
        ("postgresql://h", "names no database"),
        ("postgresql://h/", "names no database"),
        ("mysql://h:99999/d", "store URL 'mysql://h:99999/d'"),
        ("mysql://h:-1/d", "store URL"),
        ("mysql://h:port/d", "store URL"),
        ("mysql://[::1/d", "store URL"),
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite://host/x.db", "names no file"),
    ],
)
def test_what_is_no_store_is_refused_with_the_forms(text: str, part: str) -> None:
    words = refusal(text)
    assert part in words
    assert "sqlite:///" in words


@pytest.mark.parametrize("store", ["sqlite", *SERVERS])
@pytest.mark.parametrize("scheme", ["sqlite", "postgresql", "timescaledb", "mysql", "mariadb"])
def test_a_url_must_fit_the_family_of_its_store(store: str, scheme: str) -> None:
    text = "sqlite:////x.db" if scheme == "sqlite" else f"{scheme}://u:{SECRET}@h/d"
    family = {"timescaledb": "postgresql", "mariadb": "mysql"}
    if family.get(store, store) == family.get(scheme, scheme):
        assert parse(text, store).store == store
    else:
        words = refusal(text, store)
        assert f"this is a {scheme} URL, given for store '{store}'" in words
        assert SECRET not in words


raw = st.text(st.sampled_from("@:/?#[]%&=+ !$^*()~'\"\\ü℀"), max_size=6)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["oracle", "mysql", "postgresql"]),
    st.sampled_from([None, "sqlite"]),
    raw,
    raw,
    st.sampled_from(["h/d", "h", "h:99999/d", ""]),
)
@example("mysql", "sqlite", "@", "", "h/d")
@example("postgresql", None, "/", "", "h/d")
@example("postgresql", None, "", "/", "h/d")
@example("postgresql", None, "", "℀", "h/d")
def test_no_message_holds_a_word_of_a_password_that_was_not_quoted(
    scheme: str, store: str | None, a: str, b: str, place: str
) -> None:
    """People paste passwords as they are; a refusal must not print what comes after the odd letter."""
    first, second, third = "alphaalpha", "bravobravo", "charliecharlie"
    try:
        parse(f"{scheme}://user:{first}{a}{second}{b}{third}@{place}", store)
    except BadInput as error:
        for part in (first, second, third):
            assert part not in str(error)  # noqa: PT017
            assert part not in repr(error)  # noqa: PT017


@pytest.mark.parametrize(
    "text", [f"user:{SECRET}@h/d", f"postgresql:/u:{SECRET}@h/d", f"//u:{SECRET}@h/d", f"postgresql//u:{SECRET}@h/d"]
)
def test_no_message_holds_the_password_of_a_url_without_a_scheme(text: str) -> None:
    assert SECRET not in refusal(text)


@pytest.mark.parametrize(
    "text",
    [f"postgresql://u:{SECRET}/x@h/d", f"postgresql://u:x@{SECRET}@h", f"mysql://u:9{SECRET}#@h/d",
     f"postgresql://u:x℀{SECRET}@h/d"],
)  # fmt: skip
def test_no_message_of_a_server_url_holds_its_password(text: str) -> None:
    assert SECRET not in refusal(text)


def test_the_options_of_a_sqlite_url_are_not_part_of_the_file_name() -> None:
    """MLflow takes ``?timeout=5`` as SQLAlchemy does; taking it for the name would say "no such file"."""
    try:
        path = parse("sqlite:////srv/mlflow.db?timeout=5").path
    except BadInput as error:
        assert "?" in str(error) or "option" in str(error)  # noqa: PT017
        return
    assert path == Path("/srv/mlflow.db")


def test_a_url_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_URL", f"postgresql://u:{SECRET}@h/d")
    assert from_option("timescaledb", "env:MY_URL") == StoreUrl("timescaledb", None, "h", 5432, "u", SECRET, "d")
    assert from_option("mysql", "mysql://h/d").database == "d"


@pytest.mark.parametrize("set_to", [None, ""])
def test_a_variable_that_is_not_set_is_named(set_to: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    change: Callable[..., Any] = monkeypatch.delenv if set_to is None else monkeypatch.setenv
    change("MY_URL", **({"raising": False} if set_to is None else {"value": set_to}))
    with pytest.raises(BadInput, match=re.escape("--store mysql=env:MY_URL: MY_URL is not set")):
        from_option("mysql", "env:MY_URL")


def test_a_variable_that_holds_something_else_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_URL", SECRET)
    with pytest.raises(BadInput) as caught:
        from_option("mysql", "env:MY_URL")
    assert SECRET not in str(caught.value)
