"""What settings allow to be lost: by a kill -9 of the database, and by the end of the machine."""

import pytest

from bench.stores import class_of
from bench.stores.url import StoreUrl

PG = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "wal_writer_delay": "200ms"}
MY = {
    "innodb_flush_log_at_trx_commit": "1",
    "innodb_flush_log_at_timeout": "1",
    "innodb_doublewrite": "ON",
    "sync_binlog": "1",
    "log_bin": "ON",
}
NOTHING = None


def lite(journal: str, synchronous: int) -> dict[str, str]:
    return {"journal_mode": journal, "synchronous": str(synchronous)}


@pytest.mark.parametrize(
    ("name", "settings", "crash", "power", "claim"),
    [
        ("postgresql", PG, NOTHING, NOTHING, "on disk"),
        ("postgresql", PG | {"synchronous_commit": "local"}, NOTHING, NOTHING, "on disk"),
        ("postgresql", PG | {"synchronous_commit": "remote_write"}, NOTHING, NOTHING, "on disk"),
        ("postgresql", PG | {"synchronous_commit": "off"}, "600 ms of commits", "600 ms", "3 x wal_writer_delay"),
        (
            "timescaledb",
            PG | {"synchronous_commit": "off", "wal_writer_delay": "10ms"},
            "up to 30 ms of commits",
            "up to 30 ms of commits",
            "wal_writer_delay",
        ),
        ("postgresql", PG | {"fsync": "off"}, NOTHING, "the whole cluster: it may be corrupt", "fsync"),
        ("postgresql", PG | {"fsync": "off", "synchronous_commit": "off"}, "600 ms", "the whole cluster", "fsync"),
        ("timescaledb", PG | {"full_page_writes": "off"}, NOTHING, "torn pages: the store may be corrupt", "tear"),
        ("postgresql", PG | {"full_page_writes": "off", "synchronous_commit": "off"}, "600 ms", "torn", "tear"),
        ("mysql", MY, NOTHING, NOTHING, "on disk"),
        (
            "mysql",
            MY | {"innodb_flush_log_at_trx_commit": "0"},
            "about 1 s",
            "about 1 s",
            "the server may lose about 1",
        ),
        ("mysql", MY | {"innodb_flush_log_at_trx_commit": "2"}, NOTHING, "about 1 s", "the machine may lose about 1"),
        (
            "mariadb",
            MY | {"innodb_flush_log_at_trx_commit": "0", "innodb_flush_log_at_timeout": "5"},
            "about 5 s of commits",
            "about 5 s of commits",
            "about 5 s",
        ),
        ("mysql", MY | {"sync_binlog": "0"}, NOTHING, "the binary log's tail", "sync_binlog"),
        ("mariadb", MY | {"sync_binlog": "0", "log_bin": "OFF"}, NOTHING, NOTHING, "on disk"),
        (
            "mysql",
            MY | {"innodb_doublewrite": "OFF"},
            "torn pages: the store may be corrupt",
            "torn pages: the store may be corrupt",
            "innodb_doublewrite=OFF: a crash of the server or a power loss may tear pages",
        ),
        (
            "mysql",
            MY | {"innodb_doublewrite": "DETECT_ONLY"},
            "torn pages: the store may be corrupt",
            "torn pages: the store may be corrupt",
            "innodb_doublewrite=DETECT_ONLY: a crash of the server or a power loss may tear pages",
        ),
        ("mariadb", MY | {"innodb_doublewrite": "fast"}, NOTHING, "the whole store: it may be corrupt", "=fast"),
        ("mysql", MY | {"innodb_doublewrite": "DETECT_AND_RECOVER"}, NOTHING, NOTHING, "on disk"),
        ("mysql", MY | {"innodb_flush_method": "nosync"}, NOTHING, "the whole store", "nosync"),
        ("mysql", MY | {"innodb_flush_method": "O_DIRECT"}, NOTHING, NOTHING, "on disk"),
        ("sqlite", lite("delete", 2), NOTHING, "the last commit,", "EXTRA"),
        ("sqlite", lite("truncate", 2), NOTHING, NOTHING, "synced"),
        ("sqlite", lite("persist", 2), NOTHING, NOTHING, "synced"),
        ("sqlite", lite("delete", 2) | {"locking_mode": "exclusive"}, NOTHING, NOTHING, "synced"),
        ("sqlite", lite("delete", 2) | {"locking_mode": "normal"}, NOTHING, "the last commit,", "EXTRA"),
        ("sqlite", lite("delete", 1) | {"locking_mode": "exclusive"}, NOTHING, "corrupt", "power loss"),
        ("sqlite", lite("delete", 3), NOTHING, NOTHING, "synced"),
        ("sqlite", lite("wal", 1), NOTHING, "the last commits", "power loss"),
        ("sqlite", lite("wal", 2), NOTHING, NOTHING, "synced"),
        ("sqlite", lite("delete", 1), NOTHING, "corrupt", "power loss"),
        ("sqlite", lite("delete", 0), NOTHING, "corrupt", "corrupt"),
        ("sqlite", lite("wal", 0), NOTHING, "corrupt", "corrupt"),
        ("sqlite", lite("memory", 2), "corrupt", "corrupt", "corrupt"),
        ("sqlite", lite("off", 3), "corrupt", "corrupt", "corrupt"),
    ],
)
def test_what_settings_may_lose(
    name: str, settings: dict[str, str], crash: str | None, power: str | None, claim: str
) -> None:
    """Each text holds these words; None: nothing may be lost."""
    durability = class_of(name)(StoreUrl(name)).durability(settings)
    for words, text in ((crash, durability.crash), (power, durability.power)):
        assert text is None if words is None else words in (text or "")
    assert durability.ok is (crash is None and power is None)
    assert claim in durability.claim


LOG = "innodb_flush_log_at_trx_commit"
TORN = "torn pages: the store may be corrupt"


@pytest.mark.parametrize(
    ("name", "settings", "crash", "power", "named"),
    [
        (
            "postgresql",
            PG | {"fsync": "off", "synchronous_commit": "off"},
            ["up to 600 ms of commits"],
            ["the whole cluster: it may be corrupt", "up to 600 ms of commits"],
            ["fsync=off", "synchronous_commit=off"],
        ),
        (
            "timescaledb",
            PG | {"full_page_writes": "off", "synchronous_commit": "off"},
            ["up to 600 ms of commits"],
            [TORN, "up to 600 ms of commits"],
            ["full_page_writes=off", "synchronous_commit=off"],
        ),
        (
            "postgresql",
            PG | {"fsync": "off", "full_page_writes": "off"},
            [],
            ["the whole cluster: it may be corrupt", TORN],
            ["fsync=off", "full_page_writes=off"],
        ),
        (
            "mysql",
            MY | {LOG: "2", "sync_binlog": "0"},
            [],
            ["about 1 s of commits", "commits in the binary log's tail"],
            [f"{LOG}=2", "sync_binlog is not 1"],
        ),
        (
            "mysql",
            MY | {LOG: "2", "innodb_doublewrite": "OFF"},
            [TORN],
            ["about 1 s of commits", TORN],
            [f"{LOG}=2", "innodb_doublewrite=OFF"],
        ),
        (
            "mariadb",
            MY | {LOG: "0", "innodb_flush_method": "littlesync", "innodb_doublewrite": "OFF", "sync_binlog": "0"},
            ["about 1 s of commits", TORN],
            [
                "about 1 s of commits",
                "the whole store: it may be corrupt",
                TORN,
                "commits in the binary log's tail",
            ],
            [f"{LOG}=0", "innodb_flush_method=littlesync", "innodb_doublewrite=OFF", "sync_binlog is not 1"],
        ),
    ],
)
def test_each_setting_that_may_lose_is_named(
    name: str, settings: dict[str, str], crash: list[str], power: list[str], named: list[str]
) -> None:
    """Where several apply, none hides another."""
    durability = class_of(name)(StoreUrl(name)).durability(settings)
    assert (durability.crash or "").split("; ") == (crash or [""])
    assert (durability.power or "").split("; ") == power
    claims = durability.claim.split("; ")
    assert len(claims) == len(named)
    assert all(claim.startswith(name) for claim, name in zip(claims, named, strict=True))
