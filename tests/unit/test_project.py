"""The project's own files keep their promises: lock, Makefile, set-up, CI and the shape of the source."""

import os
import re
import shutil
import subprocess
import tempfile
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
NOT_OURS = {
    ".git",
    ".venv",
    "__pycache__",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".hypothesis",
    "results",
}


def project_files() -> list[Path]:
    """Files that git tracks or would track; without git, everything but the usual leavings."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        command = [
            "git",
            "-c",
            f"safe.directory={ROOT}",
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
        files = [ROOT / os.fsdecode(name) for name in listed.split(b"\0") if name]
    else:
        files = [path for path in ROOT.rglob("*") if not NOT_OURS.intersection(path.relative_to(ROOT).parts)]
    return sorted(path for path in files if path.is_file() and not path.is_symlink())


def locked() -> dict[str, list[tuple[Requirement, int]]]:
    """Each locked package by its normal name: its requirements (one an environment) and their hash counts."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", " ")
    packages: dict[str, list[tuple[Requirement, int]]] = {}
    for line in text.splitlines():
        wanted, *hashes = re.split(r"\s+--hash=sha256:", line)
        if wanted.strip():
            requirement = Requirement(wanted.strip())
            packages.setdefault(canonicalize_name(requirement.name), []).append((requirement, len(hashes)))
    return packages


def test_lock_pins_each_package_with_hashes() -> None:
    packages = locked()
    assert len(packages) > 50
    for requirement, hashes in (entry for entries in packages.values() for entry in entries):
        assert [specifier.operator for specifier in requirement.specifier] == ["=="], requirement
        assert hashes > 0, requirement


def test_lock_names_no_address() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*(-i|-f|--index|--extra-index|--find-links|--trusted-host)", text, re.MULTILINE)


def test_lock_holds_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"].values()
    wanted = [*project["project"]["dependencies"], *(line for extra in extras for line in extra)]
    wanted += project["build-system"]["requires"]
    packages = locked()
    for requirement in map(Requirement, wanted):
        entries = packages.get(canonicalize_name(requirement.name))
        assert entries, f"{requirement} is not in requirements.lock: make lock"
        for pinned, _ in entries:
            version = str(pinned.specifier).removeprefix("==")
            assert requirement.specifier.contains(version, prereleases=True), f"{requirement}, but locked: {pinned}"


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_bare_make_explains_each_target() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(["make"], cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    assert targets >= {"help", "bench-report", "bench-gate", "test", "test-slow", "check", "lock", "clean"}
    assert set(re.findall(r"^  make (\S+) +\S", done.stdout, re.MULTILINE)) == targets
    declared = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert declared
    assert set(declared[1].split()) == targets


@pytest.mark.parametrize(("shell", "script"), [("sh", "tools/setup"), ("bash", "tools/setup"), ("bash", ".ci/run")])
def test_scripts_parse_and_can_be_called(shell: str, script: str) -> None:
    subprocess.run([shell, "-n", script], cwd=ROOT, check=True)
    assert os.access(ROOT / script, os.X_OK)


def test_setup_without_a_python_says_what_to_do(tmp_path: Path) -> None:
    project = tmp_path / "a project"
    (project / "tools").mkdir(parents=True)
    for name in ("tools/setup", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, project / name)
    done = subprocess.run(
        ["sh", "tools/setup"],
        cwd=project,
        env={**os.environ, "PYTHON": "no-such-python"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Python 3.11" in done.stderr
    assert not (project / ".venv").exists()


def test_workflow_runs_the_ci_script_and_pins_actions() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    steps = {name: job["steps"] for name, job in workflow["jobs"].items()}
    commands = {name: [step["run"] for step in job if "run" in step] for name, job in steps.items()}
    assert "bash .ci/run" in commands["ubuntu"]
    assert "bash .ci/run" in commands["debian"]
    assert "make test-slow" in commands["slow"]
    assert "make bench-report" in commands["report"]
    for action in (step["uses"] for job in steps.values() for step in job if "uses" in step):
        assert re.fullmatch(r"actions/[a-z-]+@v\d+", action)


def test_no_file_names_the_place_of_this_checkout() -> None:
    parent = ROOT.parent
    if parent in {Path("/"), Path(tempfile.gettempdir()).resolve()}:
        pytest.skip("the checkout is at a place that files may well name")
    place = re.compile(rb"(?<![\w.}])" + re.escape(os.fsencode(parent)) + rb"/")
    found = [str(path.relative_to(ROOT)) for path in project_files() if place.search(path.read_bytes())]
    assert found == []


def test_python_files_are_short() -> None:
    counts = {path: len(path.read_bytes().splitlines()) for path in project_files() if path.suffix == ".py"}
    assert counts
    assert {str(path.relative_to(ROOT)): lines for path, lines in counts.items() if lines > 400} == {}
