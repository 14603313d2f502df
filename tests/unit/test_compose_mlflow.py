"""The Docker files of MLflow and Locust: versions as tested, nothing public, no default password, one shared folder."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from bench.identity import DAY_MS
from bench.servers import compose, debian

ROOT = Path(__file__).parents[2]
STORES = ("postgresql", "timescaledb", "mysql", "sqlite")
DRIVERS = ("psycopg2-binary", "PyMySQL", "cryptography", "Flask-WTF")
DOCKERFILES = ("docker/mlflow/Dockerfile", "docker/locust/Dockerfile")
SECRET = re.compile(r"PASSWORD|TOKEN|SECRET", re.IGNORECASE)


@pytest.fixture(scope="module")
def services():
    return yaml.safe_load(compose.FILE.read_text())["services"]


def instructions(path: str) -> list[str]:
    text = "\n".join(line for line in (ROOT / path).read_text().splitlines() if not line.startswith("#"))
    return text.replace("\\\n", " ").splitlines()


def test_the_image_has_our_mlflow_and_every_driver(services):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (pinned,) = (line.partition("==")[2] for line in project["dependencies"] if line.startswith("mlflow=="))
    lines = instructions(DOCKERFILES[0])
    assert f"ARG MLFLOW_VERSION={pinned}" in lines
    (installed,) = (line for line in lines if "pip install" in line)
    assert all(driver in installed for driver in DRIVERS)
    assert f"trackbench-mlflow:{pinned}}}" in services["mlflow-postgresql"]["image"]


@pytest.mark.parametrize("path", DOCKERFILES)
def test_images_run_as_somebody_who_is_not_root_and_hold_no_secret(path):
    lines = instructions(path)
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert len(users) == 1
    assert users[0] not in ("root", "0")
    assert not any(SECRET.search(line) for line in lines)
    ignored = (ROOT / f"{path}.dockerignore").read_text().splitlines()
    assert ignored[0] == "*"  # only what is named gets into the build: no results, no environment, no key
    for line in lines:
        if line.startswith("COPY "):
            for part in line.split()[1:-1]:
                assert (ROOT / part).exists(), part


def test_the_image_checks_its_health_with_our_script():
    (check,) = (line for line in instructions(DOCKERFILES[0]) if line.startswith("HEALTHCHECK"))
    assert '["python", "/opt/trackbench/healthcheck.py"]' in check


def test_only_databases_start_when_nothing_is_named(services):
    assert {name for name, service in services.items() if "profiles" not in service} == set(compose.SERVICES)


def test_ports_are_published_on_loopback_only_and_never_twice(services):
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert all(re.fullmatch(r"127\.0\.0\.1:\$\{TRACKBENCH_[A-Z_]+_PORT:-\d+\}:\d+", port) for port in ports)
    published = re.findall(r":-(\d+)\}", " ".join(ports))
    assert len(set(published)) == len(ports)


def test_passwords_have_no_default(services):
    for name, service in services.items():
        for variable, value in service.get("environment", {}).items():
            for given in re.findall(r"\$\{([^:}]*(?:PASSWORD|TOKEN)[^:}]*)([^}]*)\}", str(value)):
                assert given[1].startswith(":?"), (name, variable)
            if SECRET.search(variable) and value is not None:
                assert "${" in str(value) or variable == "MYSQL_RANDOM_ROOT_PASSWORD", (name, variable)


@pytest.mark.parametrize("store", STORES)
def test_mlflow_waits_for_its_store(services, store):
    service = services[f"mlflow-{store}"]
    uri = service["environment"]["MLFLOW_BACKEND_STORE_URI"]
    awaited = service["depends_on"]
    if store == "sqlite":
        assert uri == "sqlite:////data/mlflow.db"
        assert awaited == {}
        return
    assert f"@{store}:" in uri
    if store == "timescaledb":  # first the schema, with a hypertable
        assert awaited == {"timescaledb-schema": {"condition": "service_completed_successfully"}}
        awaited = services["timescaledb-schema"]["depends_on"]
    assert awaited == {store: {"condition": "service_healthy"}}


def test_the_hypertables_chunks_are_those_of_our_own_servers():
    assert f"DAY_MS = {DAY_MS:_}\n" in (ROOT / "docker/mlflow/hypertable.py").read_text()


def test_master_and_workers_are_alike_and_share_their_results(services):
    master, worker = services["master"], services["worker"]
    assert master["image"] == worker["image"]
    assert master["volumes"] == worker["volumes"] == ["results:/results"]
    assert worker["ports"] == []
    shared = master["environment"].items() & worker["environment"].items()
    assert {name for name, _ in shared} == set(worker["environment"])
    assert not any(name.startswith("LOCUST_") for name in worker["environment"])  # a worker refuses a run time
    assert master["command"][0] == "--master"
    assert worker["command"] == ["--worker", "--master-host", "master"]


@pytest.fixture(scope="module")
def docker_compose(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command: of this machine, or fetched from the distribution's archive for this test."""
    if compose.compose_version() is not None:
        return ["docker", "compose"]
    archive = debian.host_archive()
    if archive is None or archive.distribution != "debian":
        pytest.skip("no docker compose here, and no Debian archive to get one from")
    folder = tmp_path_factory.mktemp("compose")
    apt = debian.Apt(folder / "apt", archive, "trixie")
    apt.update()
    (package,) = (one for one in apt.resolve(["docker-compose"]) if one.name == "docker-compose")
    (deb,) = apt.download([package])
    subprocess.run(["dpkg-deb", "-x", deb, folder / "unpacked"], check=True)
    (program,) = (folder / "unpacked").rglob("cli-plugins/docker-compose")
    return [str(program)]


@pytest.mark.slow
def test_docker_compose_accepts_the_file(docker_compose: list[str]):
    command = [*docker_compose, "-f", str(compose.FILE), "--profile", "*", "config"]
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "TRACKBENCH_PASSWORD" in refused.stderr
    environment |= {"TRACKBENCH_PASSWORD": "s3cret", "TRACKBENCH_STORE": "mysql"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = yaml.safe_load(done.stdout)["services"]
    assert set(found) == {*compose.SERVICES, *(f"mlflow-{store}" for store in STORES), "timescaledb-schema",
                          "master", "worker"}  # fmt: skip
    published = [port for service in found.values() for port in service.get("ports", [])]
    assert {port["host_ip"] for port in published} == {"127.0.0.1"}
    assert "ports" not in found["worker"]
    assert found["master"]["environment"]["TRACKBENCH_TRACKING_URL"] == "http://mlflow-mysql:5000"
    assert found["mlflow-mysql"]["environment"]["MLFLOW_BACKEND_STORE_URI"].endswith("s3cret@mysql:3306/trackbench")


@pytest.mark.skipif(not shutil.which("sed"), reason="needs sed")
def test_the_lock_becomes_a_constraints_file():
    """The Dockerfile's own command: one version a line, and no hash, which pip refuses in constraints."""
    (run,) = (line for line in instructions(DOCKERFILES[0]) if "sed -e" in line)
    command = run.removeprefix("RUN ").partition(" > ")[0].replace("/tmp/requirements.lock", "requirements.lock")
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) > 50
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==\S+( ; .+)?", line) for line in lines)
