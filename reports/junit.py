"""junit.xml: one test case a criterion, so that a CI server shows which limit was missed."""

import itertools
from xml.etree import ElementTree as ET

from bench.cell import Verdict
from bench.results import Results
from reports import checklist, details
from reports.details import CriterionLine
from reports.figures import printable


def render(results: Results) -> str:
    """The run as JUnit XML: a suite a candidate, a case a criterion; of a move one more, with a case a step.

    A gating criterion that failed or stayed inconclusive is a failure, so that neither looks green.
    Advisory criteria and those of the reference never fail; their output says how they ended. Where the run did
    not pass and no criterion says so (nothing was measured), one more case carries the run's verdict.
    """
    lines = details.criteria(results)
    root = ET.Element("testsuites", name=printable(f"trackbench {results.run.scenario}"))
    for candidate in dict.fromkeys(line.candidate for line in lines):
        _suite(root, results, candidate, [line for line in lines if line.candidate == candidate])
    failing = checklist.junit(root, results, printable(results.run.started))
    if results.verdict != "pass" and not failing and not any(_fails(line) for line in lines):
        _verdict(root, results)
    for name in ("tests", "failures"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    root.set("time", f"{results.run.seconds:.3f}")
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _fails(line: CriterionLine) -> bool:
    return line.role == "gating" and line.outcome != "pass"


def _suite(root: ET.Element, results: Results, candidate: str, lines: list[CriterionLine]) -> None:
    suite = ET.SubElement(
        root,
        "testsuite",
        name=candidate,
        tests=str(len(lines)),
        failures=str(sum(map(_fails, lines))),
        errors="0",
        skipped="0",
        time="0",
        timestamp=printable(results.run.started),
    )
    used: set[str] = set()
    for line in lines:
        name = _unique(line, used)
        used.add(name)
        _case(suite, line, name)


def _unique(line: CriterionLine, used: set[str]) -> str:
    """A name that no other case of the suite has: CI servers merge cases of one name."""
    plain = f"{line.name} [{line.address}]"
    names = itertools.chain((plain,), (f"{plain} {line.expression}",), (f"{plain} #{n}" for n in itertools.count(2)))
    return next(name for name in names if name not in used)


def _case(suite: ET.Element, line: CriterionLine, name: str) -> None:
    case = ET.SubElement(suite, "testcase", classname=line.candidate, name=name, time="0")
    told = (
        f"{line.expression}\ntarget {line.target}, measured {line.measured}"
        + (f" ({sure})" if (sure := ", ".join(filter(None, (line.interval, line.noise)))) else "")
        + f"\n{line.outcome}: {line.reason}".rstrip(": ")
    )
    if _fails(line):
        _failure(case, line.outcome, line.reason or f"measured {line.measured}, limit {line.target}", told)
    else:
        ET.SubElement(case, "system-out").text = f"{line.role}: {told}"


def _verdict(root: ET.Element, results: Results) -> None:
    suite = ET.SubElement(root, "testsuite", name="run", tests="1", failures="1", errors="0", skipped="0", time="0")
    case = ET.SubElement(suite, "testcase", classname="run", name="verdict", time="0")
    run = results.run
    told = f"{run.trials_done} of {run.trials_planned} trials were made, {len(results.criteria)} criteria were judged"
    _failure(case, results.verdict, f"the run's verdict is {results.verdict}", told)


def _failure(case: ET.Element, outcome: Verdict, message: str, told: str) -> None:
    kind = "inconclusive" if outcome == "inconclusive" else "fail"
    ET.SubElement(case, "failure", type=kind, message=message).text = told
