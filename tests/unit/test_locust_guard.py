"""Who may talk to the web interface."""

import pytest
from flask import Flask
from flask_cors import CORS

from loadtests._guard import guard, is_ours, is_same

HOSTS = {
    "127.0.0.1:8089": True,
    "localhost:8089": True,
    "[::1]:8089": True,
    "192.168.1.7": True,
    "bench.example:8089": True,
    "evil.example": False,
    "127.0.0.1.evil.example:8089": False,
    "": False,
    "[": False,
}


@pytest.mark.parametrize("host", HOSTS)
def test_only_hosts_that_are_this_one(host: str) -> None:
    assert is_ours(host, {"bench.example"}) == HOSTS[host]


def test_only_pages_of_this_server() -> None:
    assert is_same(None, "127.0.0.1:8089")
    assert is_same("http://127.0.0.1:8089", "127.0.0.1:8089")
    for foreign in ("http://evil.example", "null", "http://127.0.0.1:8090", "http://localhost:8089", ""):
        assert not is_same(foreign, "127.0.0.1:8089")


def test_refused_before_anything_happens() -> None:
    app, started = Flask(__name__), []
    CORS(app)  # as Locust does

    @app.post("/swarm")
    def swarm() -> str:
        started.append(True)
        return "started"

    guard(app, "127.0.0.1")
    client = app.test_client()
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "evil.example:8089"}):
        assert client.post("/swarm", headers=headers).status_code == 403
    assert started == []
    answer = client.post("/swarm", headers={"Origin": "http://localhost", "Host": "localhost"})
    assert answer.status_code == 200
    assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"
    assert not [name for name in answer.headers.keys() if name.lower().startswith("access-control-")]  # noqa: SIM118
