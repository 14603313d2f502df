"""What is logged of a run: plain params, metrics and tags, from its results alone."""

import math
import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from bench.cell import Cell
from bench.history.names import RUN, Place, condition, experiment, metric, part
from bench.results import Results

RUN_ID: Final = "trackbench.run_id"
SCENARIO: Final = "trackbench.scenario"
LOGGED: Final = "trackbench.logged"
INTERRUPTED: Final = "trackbench.interrupted"
"""Set last, so that a run which was cut short while it was logged is known, and completed by the next attempt."""
REVISION: Final = "trackbench.git_revision"
VERDICT: Final = "trackbench.verdict"
EXIT_CODE: Final = "trackbench.exit_code"
MACHINE: Final = "trackbench.machine"
CODES: Final = {"pass": 0, "inconclusive": 1, "fail": 2}
_MOST_TEXT: Final = 500  # the least that any MLflow of the last years takes for a param or a tag
_MOST_NOTE: Final = 4_000


@dataclass(frozen=True)
class Record:
    """A run as MLflow keeps it. Times in ms since 1970; ``metrics`` have one value each, at the run's end."""

    experiment: str
    run_id: str
    name: str
    started: int
    ended: int
    interrupted: bool
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]


def record(results: Results) -> Record:
    """What is logged of these results."""
    run = results.run
    return Record(
        experiment=experiment(run.scenario),
        run_id=run.id,
        name=run.id,
        started=_ms(run.started),
        ended=_ms(run.ended),
        interrupted=run.interrupted,
        params={name: _cut(value) for name, value in _params(results).items()},
        metrics=_metrics(results),
        tags=_tags(results),
    )


def machine_of(results: Results) -> str:
    """The machine as two runs of it share it: not its name, and not what updates change."""
    facts = results.environment
    system = facts.get("machine", "").split()
    memory = re.sub(r"^(\d+\.\d+)", lambda found: f"{float(found[1]):.0f}", facts.get("memory", ""))
    cores = f"{facts['cores']} cores" if "cores" in facts else ""
    known = [facts.get("processor", ""), cores, memory, system[-1] if system else ""]
    return ", ".join(" ".join(each.split()) for each in known if each) or "unknown"


def figures(cell: Cell) -> dict[str, float | None]:
    """A cell's figures by name; None where it was not measured. Percentiles are response times."""
    written = cell.latency_ms.response if cell.latency_ms.response.n else cell.latency_ms.service
    found: dict[str, float | None] = {
        "metrics_per_s": cell.metrics_per_s,
        "ops_per_s": cell.ops_per_s,
        "p50_ms": written.p50,
        "p95_ms": written.p95,
        "p99_ms": written.p99,
        "success_rate": cell.success_rate,
        "lock_errors": cell.lock_errors,
        "integrity": min((one.share for one in cell.doors if one.share is not None), default=None),
    }
    if cell.read_latency_ms is not None:
        read = cell.read_latency_ms.response if cell.read_latency_ms.response.n else cell.read_latency_ms.service
        found |= {"read_p50_ms": read.p50, "read_p95_ms": read.p95, "read_p99_ms": read.p99}
    if cell.schedule is not None:
        found |= {"late": cell.schedule.late, "skipped": cell.schedule.skipped}
    return found


def place_of(cell: Cell) -> Place:
    """Where a cell's figures stand."""
    return Place(cell.candidate, cell.driver, cell.workload, cell.concurrency, cell.load)


def _metrics(results: Results) -> dict[str, float]:
    found = {
        f"{RUN}/verdict": float(CODES[results.verdict]),
        f"{RUN}/exit_code": float(results.exit_code),
        f"{RUN}/seconds": results.run.seconds,
    }
    for name, values in (("spin_ms", results.machine.spin_ms), ("sync_ms", results.machine.sync_ms)):
        if values:
            found[f"{RUN}/machine_{name}"] = statistics.median(values)
    found |= {f"{part(name)}/verdict": float(CODES[verdict]) for name, verdict in results.verdicts.items()}
    for cell in results.cells:
        found |= {metric(place_of(cell), name): value for name, value in figures(cell).items() if value is not None}
    for place, name, value in (*_control(results), *_capacities(results)):
        if value is not None:
            found.setdefault(metric(place, name), value)
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _control(results: Results) -> Iterator[tuple[Place, str, float | None]]:
    """The A/A control's ratios, which are 1 where the harness adds nothing of its own."""
    one = results.control
    for each in one.comparisons if one else ():
        place = Place(each.candidate, each.driver, each.workload, each.concurrency, each.load)
        yield place, f"control_{each.field.replace('.', '_')}_ratio", each.ratio


def _capacities(results: Results) -> Iterator[tuple[Place, str, float | None]]:
    for one in results.capacities:
        yield Place(one.candidate, one.driver, one.workload, one.concurrency), "capacity_per_s", one.holds


def _params(results: Results) -> dict[str, str]:
    run, cells, candidates = results.run, results.cells, results.candidates
    found = {
        "scenario": run.scenario,
        "command": run.command,
        "seed": str(run.seed),
        "rounds": str(run.rounds),
        "loop": run.loop,
        "mlflow_version": run.mlflow_version,
        "candidates": _listed(one.name for one in candidates) or _listed(cell.candidate for cell in cells),
        "stores": _listed(cell.store for cell in cells),
        "drivers": _listed(cell.driver for cell in cells),
        "workloads": _listed(cell.workload for cell in cells),
        "concurrency": _listed(str(level) for level in sorted({cell.concurrency for cell in cells})),
        "loads": _listed(cell.load for cell in cells),
        "prefill": _listed(one.prefill for one in candidates),
        "authentication": run.authentication,
        "network": run.network,
    }
    for one in candidates:
        found[f"server/{part(one.name)}"] = one.server_version
    for name, value in results.conditions.items():
        found.setdefault(condition(name), value)
    return found


def _tags(results: Results) -> dict[str, str]:
    run, revision = results.run, results.environment.get("git revision", "unknown")
    found = {
        RUN_ID: run.id,
        SCENARIO: run.scenario,
        REVISION: revision,
        VERDICT: results.verdict,
        EXIT_CODE: str(results.exit_code),
        MACHINE: machine_of(results),
        "trackbench.version": results.environment.get("trackbench", "unknown"),
        INTERRUPTED: "yes" if run.interrupted else "no",
        **{f"trackbench.verdict.{part(name)}": verdict for name, verdict in results.verdicts.items()},
    }
    found = {name: _cut(value) for name, value in found.items()}
    found["mlflow.note.content"] = _note(results)
    found["mlflow.source.name"] = f"trackbench run {_cut(run.scenario)}"
    found["mlflow.source.type"] = "JOB"
    if re.fullmatch(r"[0-9a-f]{7,40}", revision):
        found["mlflow.source.git.commit"] = revision
    return found


def _note(results: Results) -> str:
    """What MLflow shows as the run's description: each candidate's verdict and the reason for it."""
    lines = [f"**{results.verdict}** (exit code {results.exit_code}): {_cut(results.run.title)}", ""]
    for name, verdict in results.verdicts.items():
        lines.append(f"- {_cut(name)}: **{verdict}**. {_cut(results.reasons.get(name, ''))}")
    return "\n".join(lines)[:_MOST_NOTE]


def _listed(names: Iterator[str] | list[str]) -> str:
    return ", ".join(dict.fromkeys(names)) or "none"


def _cut(value: str) -> str:
    """A text that MLflow and every database take: on one line, printable, not empty, not too long."""
    text = " ".join("".join(each if each.isprintable() else " " for each in value).split()) or "none"
    return text if len(text) <= _MOST_TEXT else text[: _MOST_TEXT - 1] + "…"


def _ms(moment: str) -> int:
    when = datetime.fromisoformat(moment)
    return round((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000)
