"""What an action makes of a job before the load begins, and where it can't be had at all."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from test_job import JOB

from bench.faults.actions import KilledLoad, Network, says
from bench.faults.possible import untested
from bench.faults.spec import TARGETS, FaultSpec
from bench.site import Site
from bench.stores.url import StoreUrl


def proxied(spec: FaultSpec, url: str | None = None, store: StoreUrl | None = None) -> tuple[Any, int]:
    """The job with the proxy in it, and the proxy's port."""
    job = replace(JOB, site=None if url is None else Site(url, {}, True), url=store)

    async def whole() -> tuple[Any, int]:
        action = Network(spec)
        found = await action.prepare(job, None)  # type: ignore[arg-type]
        assert action._proxy is not None
        port = action._proxy.port
        await action.close()
        return found, port

    return asyncio.run(whole())


@pytest.mark.parametrize(
    ("url", "rest"), [("http://127.0.0.1:5000", ""), ("http://localhost", ""), ("http://[::1]:5000/mlflow", "/mlflow")]
)
def test_users_go_through_the_proxy(url: str, rest: str) -> None:
    job, port = proxied(FaultSpec(kind="reset", target="tracking"), url)
    assert job.site.url == f"http://127.0.0.1:{port}{rest}"


def test_writers_go_through_the_proxy() -> None:
    store = StoreUrl("mysql", host="localhost", port=3306, user="u", password="p", database="d")
    job, port = proxied(FaultSpec(kind="blackhole"), store=store)
    assert job.url == replace(store, host="127.0.0.1", port=port)


def test_a_killed_load_leaves_identities_for_another() -> None:
    async def whole() -> tuple[Any, Any]:
        action = KilledLoad()
        first = await action.prepare(replace(JOB, part=0, first=0, block=6, writers=6, active=3), None)  # type: ignore[arg-type]
        return first, action._second()

    first, second = asyncio.run(whole())
    assert (first.part, first.first, first.block) == (0, 0, 3)
    assert (second.part, second.first, second.block) == (1, 3, 3)


class Stand:
    """As much of one as is asked for."""

    name, server = "mine", None

    def __init__(self, site: Site | None = None, url: StoreUrl | None = None) -> None:
        self.site, self.url = site, url


@pytest.mark.parametrize("driver", ["direct", "http"])
def test_no_proxy_where_certificates_are_checked(driver: Any) -> None:
    secured = Stand(Site("https://host", {}, True), StoreUrl("postgresql", host="h", options=(("sslmode", "require"),)))
    plain = Stand(Site("http://host", {}, True), StoreUrl("postgresql", host="h"))
    spec = FaultSpec(kind="reset", target="tracking" if driver == "http" else "database")
    found = untested("cut", spec, secured, driver)  # type: ignore[arg-type]
    assert found is not None
    assert (found.fault, found.applies) == ("cut", True)
    assert "TLS" in found.reason
    assert untested("cut", spec, plain, driver) is None  # type: ignore[arg-type]


def test_the_users_own_servers_are_left_alone() -> None:
    for kind, targets in TARGETS.items():
        for target in targets:
            found = untested("f", FaultSpec(kind=kind, target=target), Stand(), "http")  # type: ignore[arg-type]
            spared = found is not None
            assert spared == (target != "load" and kind not in ("latency", "throttle", "blackhole", "reset")), kind


def test_each_fault_has_its_words() -> None:
    told = {says(FaultSpec(kind=kind, target=target)) for kind, targets in TARGETS.items() for target in targets}
    assert len(told) >= sum(map(len, TARGETS.values())) - 4  # a network is one, whoever stands behind it
    assert "not started again" in says(FaultSpec(kind="kill", comes_back=False))
