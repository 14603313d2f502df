"""Values, timestamps and run ids follow from an identity, in any order, and differ between identities."""

import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import identity
from bench.identity import DAY_MS, EPOCH_MS, LARGEST, SPAN_DAYS, TrialKey, run_name

KEY = TrialKey.of("20250101T000000Z-quick-abc123", 7, 3)
MANY = np.arange(60_000)
NOBODY = np.array([0])

keys = st.builds(
    TrialKey.of, st.text("abc0123456789-", min_size=1, max_size=12), st.integers(0, 2**31), st.integers(0, 0xFFFF)
)
writers = st.integers(0, 999)
ordinals = st.integers(0, 2**40)
doubles = st.floats(width=64) | st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 5e-324, LARGEST, -LARGEST])


def bits(values: np.ndarray) -> list[int]:
    return values.view(np.int64).tolist()


@settings(max_examples=100, deadline=None)
@given(keys, writers, st.lists(ordinals, min_size=1, max_size=30))
def test_one_at_a_time_and_all_at_once_give_the_same_bits(key: TrialKey, writer: int, many: list[int]) -> None:
    times, values = identity.metrics(key, np.array([writer]), np.array(many))
    single = [identity.metrics(key, np.array([writer]), np.array([n])) for n in many]
    assert times.tolist() == [int(time[0]) for time, _ in single]
    assert bits(values) == [bits(value)[0] for _, value in single]


@settings(max_examples=50, deadline=None)
@given(keys, st.lists(st.tuples(writers, ordinals), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_the_order_does_not_matter(key: TrialKey, places: list[tuple[int, int]], rng: object) -> None:
    mixed = places.copy()
    rng.shuffle(mixed)  # type: ignore[attr-defined]
    forward = identity.words(key, *np.array(places).T)
    again = identity.words(key, *np.array(mixed).T)
    assert dict(zip(places, forward.tolist(), strict=True)) == dict(zip(mixed, again.tolist(), strict=True))


def test_a_scalar_is_taken_as_an_array_of_one() -> None:
    assert identity.words(KEY, np.int64(4), np.int64(9)).tolist() == identity.words(KEY, [4], [9]).tolist()  # type: ignore[arg-type]


def test_the_values_of_a_known_identity_never_change() -> None:
    """Stored ledgers are checked by later versions too: the function is part of the file format."""
    key = TrialKey("0123456789ab", 0x0123456789ABCDEF)
    stream = _splitmix((key.word + 5 * 0xD1342543DE82EF95) % 2**64)
    expected = [_splitmix((stream + (n + 1) * 0x9E3779B97F4A7C15) % 2**64) for n in range(4)]
    assert identity.words(key, np.array([5]), np.arange(4)).tolist() == expected


def _splitmix(word: int) -> int:
    """SplitMix64's finaliser in plain integers, as the paper has it."""
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) % 2**64
    return word ^ (word >> 31)


def test_no_two_of_a_million_identities_share_a_word() -> None:
    keys_ = [TrialKey.of("run", seed, trial) for seed in (1, 2) for trial in (0, 1, 2)]
    words = [identity.words(key, np.arange(20)[:, np.newaxis], np.arange(8000)).ravel() for key in keys_]
    everything = np.concatenate(words)
    assert len(np.unique(everything)) == len(everything) == 960_000


@pytest.mark.parametrize("other", [("run", 1, 5), ("run", 2, 4), ("run2", 1, 4)])
def test_seed_trial_and_run_each_change_every_value(other: tuple[str, int, int]) -> None:
    mine, theirs = TrialKey.of("run", 1, 4), TrialKey.of(*other)
    same = identity.words(mine, NOBODY, MANY) == identity.words(theirs, NOBODY, MANY)
    assert not same.any()
    assert mine.prefix != theirs.prefix
    assert identity.text(mine, 0, 0, "param") != identity.text(theirs, 0, 0, "param")


def test_timestamps_span_the_chunks_of_a_hypertable() -> None:
    times, _ = identity.metrics(KEY, NOBODY, np.arange(2000))
    days = np.unique((times - EPOCH_MS) // DAY_MS)
    assert len(days) == SPAN_DAYS >= 30
    assert times.min() >= EPOCH_MS
    assert times.max() < EPOCH_MS + SPAN_DAYS * DAY_MS
    assert len(np.unique(times % DAY_MS)) > 1900  # not all at midnight


def test_rare_values_occur_and_stay_rare() -> None:
    _, values = identity.metrics(KEY, NOBODY, MANY)
    rare = {
        "nan": np.isnan(values),
        "inf": values == np.inf,
        "-inf": values == -np.inf,
        "zero": values == 0,
        "smallest": values == 5e-324,
        "0.1 + 0.2": values == 0.1 + 0.2,
        "largest": values == LARGEST,
        "most negative": values == -LARGEST,
    }
    counts = {name: int(flags.sum()) for name, flags in rare.items()}
    assert min(counts.values()) > 60, counts
    assert 1 / 80 < sum(counts.values()) / len(values) < 1 / 50


def test_ordinary_values_use_the_whole_mantissa_and_both_signs() -> None:
    _, values = identity.metrics(KEY, NOBODY, MANY)
    ordinary = values[np.isfinite(values) & (np.abs(values) > 1e-300) & (np.abs(values) < 1e300)]
    assert (np.abs(ordinary) >= 2.0**-16).all()
    assert (np.abs(ordinary) < 2.0**16).all()
    assert 0.48 < np.mean(ordinary < 0) < 0.52
    mantissa = ordinary.view(np.uint64)
    for bit in range(52):
        assert 0.45 < np.mean(mantissa >> np.uint64(bit) & np.uint64(1)) < 0.55, bit


@pytest.fixture(scope="module")
def sanitize() -> Callable[[None, float], tuple[bool, float]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's import is not ours to mend
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    function: Callable[[None, float], tuple[bool, float]] = SqlAlchemyStore.sanitize_metric_value
    return function


@settings(max_examples=100, deadline=None)
@given(values=st.lists(doubles, min_size=1, max_size=50))
def test_as_stored_is_what_mlflow_stores(
    sanitize: Callable[[None, float], tuple[bool, float]], values: list[float]
) -> None:
    stored, is_nan = identity.as_stored(np.array(values))
    theirs = [sanitize(None, value) for value in values]
    assert is_nan.tolist() == [flag for flag, _ in theirs]
    assert bits(stored) == bits(np.array([float(value) for _, value in theirs]))


@settings(max_examples=200, deadline=None)
@given(keys, st.integers(0, 0xFFFF), st.integers(0, 2**32 - 1))
def test_a_run_id_leads_back_to_its_place(key: TrialKey, writer: int, cycle: int) -> None:
    run_id = key.run_id(writer, cycle)
    assert len(run_id) == 32
    assert set(run_id) <= set("0123456789abcdef")
    assert run_id.startswith(key.prefix)
    assert key.locate_run(run_id) == (writer, cycle)


@settings(max_examples=200, deadline=None)
@given(keys, st.integers(0, 0xFFFF), st.integers(0, 2**32 - 1))
def test_a_name_leads_back_to_its_place(key: TrialKey, writer: int, cycle: int) -> None:
    name = key.name(writer, cycle)
    assert name == run_name(key.run_id(writer, cycle))
    assert key.locate_name(name) == (writer, cycle)
    assert run_name(key.prefix) <= name < run_name(key.prefix) + "g"  # as a database sorts what it looks for


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40) | st.text("0123456789abcdef", min_size=24, max_size=24).map("trackbench-".__add__))
def test_foreign_names_are_not_ours(text: str) -> None:
    assert KEY.locate_name(text) is None
    assert KEY.locate_name(TrialKey.of("another run", 7, 3).name(0, 0)) is None


@pytest.mark.parametrize("at", range(11, 35))
def test_a_name_with_any_digit_changed_is_another_place_or_none(at: int) -> None:
    found = KEY.locate_name(_bent(KEY.name(3, 9), at))
    assert found is None if at < 11 + 12 else found not in (None, (3, 9))


def test_a_name_in_other_letters_or_with_more_of_them_is_not_ours() -> None:
    name = KEY.name(10, 11)
    for wrong in (name.upper(), name + "0", name[:-1], name.removeprefix("trackbench-"), f"trackbench-{name}", ""):
        assert KEY.locate_name(wrong) is None


@pytest.mark.parametrize(("writer", "cycle"), [(-1, 0), (0, -1), (-1, -1), (-0xFFF, 5), (3, -0xFFFFFFF)])
def test_a_sign_is_no_digit(writer: int, cycle: int) -> None:
    """Counted from the end, such a place would be taken for another's."""
    assert KEY.locate_run(KEY.run_id(writer, cycle)) is None
    assert KEY.locate_name(KEY.name(writer, cycle)) is None


def test_run_ids_are_unique() -> None:
    keys_ = [TrialKey.of("run", 1, trial) for trial in range(3)]
    ids = {key.run_id(writer, cycle) for key in keys_ for writer in range(50) for cycle in range(50)}
    assert len(ids) == 3 * 50 * 50


def _bent(run_id: str, at: int) -> str:
    return run_id[:at] + ("1" if run_id[at] == "0" else "0") + run_id[at + 1 :]


@pytest.mark.parametrize("at", range(32))
def test_an_id_with_any_digit_changed_is_not_ours(at: int) -> None:
    assert KEY.locate_run(_bent(KEY.run_id(3, 9), at)) is None


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40) | st.text("0123456789abcdef", min_size=32, max_size=32))
def test_foreign_ids_are_not_ours(text: str) -> None:
    assert KEY.locate_run(text) is None
    assert KEY.locate_run(TrialKey.of("another run", 7, 3).run_id(0, 0)) is None


def test_an_id_in_other_letters_or_with_more_of_them_is_not_ours() -> None:
    run_id = KEY.run_id(10, 11)
    for wrong in (run_id.upper(), run_id + "0", run_id[:-1], " " + run_id, "", "g" * 32):
        assert KEY.locate_run(wrong) is None


@settings(max_examples=100, deadline=None)
@given(keys, writers, ordinals, st.sampled_from(["param", "tag"]))
def test_texts_follow_from_their_identity_and_fit_mlflow(key: TrialKey, writer: int, ordinal: int, what: str) -> None:
    text = identity.text(key, writer, ordinal, what)
    assert text == identity.text(key, writer, ordinal, what)
    assert text.isprintable()
    assert 0 < len(text) <= 6000  # MLflow's limit for a param
    others = (
        identity.text(key, writer + 1, ordinal, what),
        identity.text(key, writer, ordinal + 1, what),
        identity.text(key, writer, ordinal, what + "x"),
    )
    assert text not in others


def test_some_texts_are_long_and_some_need_four_bytes_a_letter() -> None:
    texts = [identity.text(KEY, 0, n, "param") for n in range(32)]
    assert sum(len(text) > 500 for text in texts) == 2
    assert sum(any(ord(letter) > 0xFFFF for letter in text) for text in texts) == 2
    assert len(set(texts)) == 32


@settings(max_examples=50, deadline=None)
@given(keys, writers, ordinals)
def test_a_moment_lies_in_the_span(key: TrialKey, writer: int, ordinal: int) -> None:
    moment = identity.moment(key, writer, ordinal)
    assert isinstance(moment, int)
    assert moment == identity.moment(key, writer, ordinal)
    assert EPOCH_MS <= moment < EPOCH_MS + SPAN_DAYS * DAY_MS
