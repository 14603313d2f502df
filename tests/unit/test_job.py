"""A job crosses the pipe as JSON and arrives as it was sent; no secret shows on the way."""

import math
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.identity import TrialKey
from bench.job import Job, ReadTargets, samples_path
from bench.site import Site
from bench.stores.url import StoreUrl
from bench.workload import KINDS, Layout, Workload

KEY = TrialKey("0123456789ab", 2**64 - 1)
SECRET = "hunter2hunter2"
URL = StoreUrl("mysql", host="h", port=3306, user="u", password=SECRET, database="d", options=(("charset", "utf8"),))
SITE = Site("http://127.0.0.1:5000", {"Authorization": f"Basic {SECRET}"}, counted=True)
JOB = Job(
    driver="http",
    url=URL,
    site=SITE,
    session_options={"a": "b"},
    key=KEY,
    workload=Workload("w", "train", experiments=True),
    run_ids=("x", "y"),
    writers=2,
    part=1,
    first=0,
    block=2,
    active=1,
    experiment_id=3,
    artifact_root="/artifacts",
    folder="/trial",
    warmup_s=0.0,
    duration_s=1.5,
    count=None,
    min_writes=0,
    timeout_s=30.0,
    retry="none",
    reads=ReadTargets(1, KEY, 20, 3, ("p", "q")),
)

words = st.text(max_size=12)
pairs = st.dictionaries(words, words, max_size=3)
urls = st.builds(
    StoreUrl,
    st.sampled_from(["postgresql", "timescaledb", "mysql", "mariadb"]),
    host=words,
    port=st.integers(0, 65535),
    user=words,
    password=words,
    database=words,
    options=st.lists(st.tuples(words, words), max_size=2).map(tuple),
)
files = st.builds(StoreUrl, st.just("sqlite"), path=st.sampled_from([Path("/a/b c.db"), Path("żółć.db")]))
keys = st.builds(TrialKey, st.from_regex(r"[0-9a-f]{12}", fullmatch=True), st.integers(0, 2**64 - 1))
many = st.lists(words, max_size=3).map(tuple)
jobs = st.builds(
    Job,
    driver=st.sampled_from(["direct", "http"]),
    url=st.none() | urls | files,
    site=st.none() | st.builds(Site, words, pairs, st.booleans()),
    session_options=pairs,
    key=keys,
    workload=st.builds(
        Workload, words, st.sampled_from(KINDS), experiments=st.booleans(), read_share=st.floats(0, 0.99)
    ),
    run_ids=many,
    warmup_s=st.floats(0, 1e3),
    duration_s=st.floats(0.1, 1e6) | st.just(math.inf),
    count=st.none() | st.integers(1, 10**9),
    timeout_s=st.floats(0.1, 1e3),
    retry=st.sampled_from(["none", "mlflow"]),
    reads=st.none() | st.builds(ReadTargets, st.integers(0), keys, st.integers(0, 99), st.integers(1, 9), many),
)


@settings(max_examples=150, deadline=None)
@given(jobs)
def test_a_job_arrives_as_it_was_sent(job: Job) -> None:
    found = Job.from_json(job.to_json())
    assert found == job
    for each in fields(Job):  # 1 and 1.0 and True are equal, and would be another job all the same
        assert type(getattr(found, each.name)) is type(getattr(job, each.name)), each.name
    assert hash(found.key) == hash(job.key)
    assert found.layout == Layout(job.key, job.workload, job.writers)


@pytest.mark.parametrize(
    "changes",
    [{"url": None}, {"site": None}, {"duration_s": math.inf}, {"reads": None}, {"run_ids": ()}, {"count": 5}],
    ids=str,
)
def test_what_may_be_missing_stays_missing(changes: dict[str, object]) -> None:
    job = replace(JOB, **changes)  # type: ignore[arg-type]
    assert Job.from_json(job.to_json()) == job


def test_no_secret_shows_where_a_job_is_printed() -> None:
    for shown in (repr(JOB), str(JOB), repr(JOB.site), repr(JOB.url), str(JOB.url)):
        assert SECRET not in shown
    assert SECRET in JOB.to_json()  # the load process must log in


def test_the_run_of_a_writer_is_its_own_or_the_hot_one() -> None:
    own = replace(JOB, workload=Workload("w", "log_metric"))
    assert [own.run_id(0), own.run_id(1)] == ["x", "y"]
    hot = replace(JOB, workload=Workload("w", "log_metric", hot_run=True), run_ids=("x",))
    assert {hot.run_id(writer) for writer in range(9)} == {"x"}


def test_prefilled_runs_are_named_by_us_or_by_the_server() -> None:
    assert JOB.reads is not None
    assert JOB.reads.run_id(1) == "q"
    assert replace(JOB.reads, run_ids=()).run_id(1) == KEY.run_id(1, 0)


def test_no_two_parts_write_into_one_file() -> None:
    assert JOB.samples == samples_path(Path("/trial"), 1) == Path("/trial/samples-1.raw")
    assert len({samples_path(Path("/trial"), part) for part in range(300)}) == 300
