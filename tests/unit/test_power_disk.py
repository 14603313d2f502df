"""The model of a disk: what is synced is there after a cut, and the rest is a mix of what was written."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.faults.power.disk import SECTOR, Disk, File, Survival, survivals

NONE, SOME, ALL = Survival("none"), Survival("some"), Survival("all")
FORGETFUL = Survival("none", "none")
SIZES = st.integers(0, 12 * SECTOR)
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("write"), SIZES, st.binary(min_size=1, max_size=20).flatmap(lambda b: st.just(b * 100))),
        st.tuples(st.just("truncate"), SIZES, st.just(b"")),
    ),
    max_size=8,
)
RNG = random.Random(3)


def apply(file: File, changes: list[tuple[str, int, bytes]]) -> list[bytes]:
    """Carry changes out; returns what the file was before the first and after each, as a plain byte string has it."""
    versions = [file.now]
    for kind, place, data in changes:
        now = versions[-1]
        if kind == "write":
            file.write(place, data)
            versions.append(now[:place].ljust(place, b"\0") + data + now[place + len(data) :])
        else:
            file.truncate(place)
            versions.append(now[:place].ljust(place, b"\0"))
    return versions


def sector(contents: bytes, number: int) -> bytes:
    return contents[number * SECTOR : (number + 1) * SECTOR].ljust(SECTOR, b"\0")


@given(CHANGES, CHANGES, st.integers())
def test_what_was_synced_is_exactly_what_it_was_at_the_sync(first, second, seed):
    file = File(b"durable" * 200)
    synced = apply(file, first)[-1]
    file.sync()
    for keep in ("none", "some", "all"):
        assert file.after_cut(keep, random.Random(seed)) == synced
    now = apply(file, second)[-1]
    assert file.after_cut("none", random.Random(seed)) == synced
    assert file.after_cut("all", random.Random(seed)) == now == file.now


@given(CHANGES, CHANGES, st.integers())
def test_survivors_are_a_mix_of_versions_since_the_sync_sector_by_sector(first, second, seed):
    file = File(b"")
    apply(file, first)
    file.sync()
    versions = apply(file, second)
    found = file.after_cut("some", random.Random(seed))
    assert len(found) in {len(version) for version in versions}
    for number in range(-(-len(found) // SECTOR)):
        there = found[number * SECTOR : (number + 1) * SECTOR]
        assert there in {sector(version, number)[: len(there)] for version in versions}


@given(CHANGES, st.integers(0, 11 * SECTOR), st.integers())
def test_a_cut_changes_nothing_on_the_disk_itself(changes, amount, seed):
    file = File(bytes(amount))
    apply(file, changes)
    before = file.now, file.durable
    file.after_cut("some", random.Random(seed))
    assert (file.now, file.durable) == before == (file.after_cut("all", RNG), file.after_cut("none", RNG))


def test_writes_are_torn_lost_and_reordered():
    """Otherwise a disk that keeps everything in order would pass as well."""
    file = File(bytes(4 * SECTOR))
    file.write(0, b"1" * 2 * SECTOR)
    file.write(2 * SECTOR, b"2" * 2 * SECTOR)
    found = {file.after_cut("some", random.Random(seed)) for seed in range(200)}
    lost, one, two = bytes(SECTOR), b"1" * SECTOR, b"2" * SECTOR
    assert {one + lost + lost + lost, lost + lost + two + two, lost + one + two + lost} <= found
    assert len(found) == 16  # each sector as it was or as it was written


def test_a_sector_can_be_any_of_those_that_it_was():
    file = File(bytes(SECTOR))
    for word in (b"1", b"2", b"3"):
        file.write(0, word * SECTOR)
    found = {file.after_cut("some", random.Random(seed))[:1] for seed in range(100)}
    assert found == {b"\0", b"1", b"2", b"3"}


def test_bytes_outside_a_write_stay_as_they_were():
    file = File(b"a" * SECTOR)
    file.write(100, b"b" * 50)
    found = {file.after_cut("some", random.Random(seed)) for seed in range(50)}
    assert found == {b"a" * SECTOR, b"a" * 100 + b"b" * 50 + b"a" * (SECTOR - 150)}


def test_a_lost_truncation_leaves_no_zeros():
    file = File(b"j" * 3 * SECTOR)
    file.truncate(0)
    assert {file.after_cut("some", random.Random(seed)) for seed in range(50)} == {b"", b"j" * 3 * SECTOR}


def test_a_lost_extension_leaves_the_old_size():
    file = File(b"a" * SECTOR)
    file.write(SECTOR, b"b" * SECTOR)
    lengths = {len(file.after_cut("some", random.Random(seed))) for seed in range(50)}
    assert lengths == {SECTOR, 2 * SECTOR}


# The directory


@pytest.fixture
def disk() -> Disk:
    return Disk({"a": b"1"})


def test_a_new_file_has_no_name_before_its_directory_is_synced(disk):
    number = disk.create("b")
    disk.write("b", number, 0, b"2")
    disk.sync("b", number)
    assert disk.after_cut(FORGETFUL, RNG) == {"a": b"1"}
    assert disk.after_cut(NONE, RNG) == {"a": b"1", "b": b"2"}  # a journaled directory keeps its entries
    disk.sync_directory()
    assert disk.after_cut(FORGETFUL, RNG) == {"a": b"1", "b": b"2"}


def test_a_deleted_file_is_back_with_its_durable_contents(disk):
    disk.write("a", 0, 0, b"2")
    disk.delete("a")
    assert disk.find("a") is None
    assert disk.after_cut(NONE, RNG) == {}
    assert disk.after_cut(FORGETFUL, RNG) == {"a": b"1"}
    assert disk.after_cut(Survival("all", "none"), RNG) == {"a": b"2"}
    disk.sync_directory()
    assert disk.after_cut(FORGETFUL, RNG) == {}


def test_a_name_may_be_that_of_any_file_that_had_it(disk):
    for word in (b"2", b"3"):
        disk.delete("a")
        disk.write("a", disk.create("a"), 0, word)
    some = Survival("all", "some")
    found = [disk.after_cut(some, random.Random(seed)).get("a") for seed in range(100)]
    assert set(found) == {b"1", b"2", b"3", None}


def test_a_sync_of_one_file_is_none_of_another(disk):
    other = disk.create("b")
    disk.write("b", other, 0, b"2")
    disk.write("a", 0, 0, b"3")
    disk.sync("a", 0)
    assert disk.after_cut(NONE, RNG) == {"a": b"3", "b": b""}


@given(st.lists(st.sampled_from(["create", "write", "truncate", "sync", "delete", "sync directory"]), max_size=20))
def test_every_change_is_an_event_and_a_log_can_be_played_again(kinds):
    disk = Disk({"a": b"1"})
    for kind in kinds:
        number = disk.find("a")
        if kind == "sync directory":
            disk.sync_directory()
        elif kind == "create" and number is None:
            disk.create("a")
        elif number is not None and kind != "create":
            arguments = {"write": (number, 3, b"xy"), "truncate": (number, 2), "sync": (number,), "delete": ()}[kind]
            getattr(disk, kind)("a", *arguments)
    again = Disk({"a": b"1"})
    for event in disk.log:
        again.do(event)
    for survival in {*survivals("contents"), *survivals("directory")}:
        assert again.after_cut(survival, random.Random(1)) == disk.after_cut(survival, random.Random(1))


def test_events_and_survivals_in_words(disk):
    disk.write("a", 0, 8, b"four")
    disk.truncate("a", 0, 3)
    disk.sync("a", 0)
    disk.delete("a")
    disk.sync_directory()
    words = ["write 4 bytes at 8 of a", "truncate a to 3 bytes", "sync a", "delete a", "sync directory"]
    assert [str(event) for event in disk.log] == words
    assert str(SOME) == "some unsynced sectors survived"
    assert str(FORGETFUL) == "nothing unsynced survived, no unsynced directory entry"


def test_what_is_tried_at_each_cut():
    """`directory` loses contents as well, and each of both is tried alone, together and torn."""
    assert set(survivals("contents")) == {NONE, SOME, ALL}
    tried = {(one.contents, one.entries) for one in survivals("directory")}
    assert tried == {("none", "none"), ("some", "none"), ("all", "none"), ("some", "some"), ("none", "all")}
