"""A scenario's faults are checked when it is read: each mistake is answered in one line that leads to it."""

import pytest

from bench.errors import BadInput
from bench.scenario import Scenario, parse_text

GOOD = """\
title = "t"
[prefill]
runs = 2
metrics = 20
[candidates.postgresql]
store = "postgresql"
[workloads.w]
kind = "log_metric"
[workloads.train]
kind = "train"
[faults.one]
kind = "kill"
[[cells]]
workload = "w"
concurrency = [2]
faults = ["one"]
[[criteria]]
name = "kept"
expression = "fault.kept == 1"
"""


def changed(*pairs: tuple[str, str]) -> str:
    text = GOOD
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new, 1)
    return text


def test_a_good_one() -> None:
    found: Scenario = parse_text(GOOD, "my.toml")
    assert found.faults["one"].target == "database"
    assert found.cells[0].faults == ["one"]


KILL, CELL = 'kind = "kill"', 'faults = ["one"]'


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([(KILL, 'kind = "blow up"')], "faults.one.kind = 'blow up' is unknown"),
        ([(KILL, 'kind = "kill"\ntarget = "moon"')], "faults.one.target = 'moon' is unknown"),
        ([(KILL, 'kind = "lock"\ntarget = "load"')], "can't be done to 'load'; set target = 'database'"),
        ([(KILL, 'kind = "kill"\nfor_s = -1')], "faults.one.for_s = -1"),
        ([(KILL, 'kind = "kill"\nfor_s = 60.0')], "given up after 60 s; raise limit_s"),
        ([(KILL, 'kind = "kill"\ndelay_ms = 5.0')], "delay_ms belongs to kind latency, not to kill"),
        ([(KILL, 'kind = "kill"\nlose = "contents"')], "lose belongs to kind power"),
        ([(KILL, 'kind = "kill"\nwhen = 1')], "unknown key 'faults.one.when'; allowed here: after, at_s"),
        ([(CELL, "faults = []")], "faults is empty"),
        ([(CELL, 'faults = ["one", "one"]')], "names a fault twice"),
        ([(CELL, 'faults = ["two"]')], "unknown fault 'two'; use one of one"),
        ([(CELL, 'faults = ["one"]\ncount = 5')], "count belongs to cells without faults"),
        ([(CELL, 'faults = ["one"]\nduration_s = 5.0')], "duration_s belongs to cells without faults"),
        ([(CELL, 'faults = ["one"]\nrate = [5, 9]')], "one rate at a time"),
        ([(KILL, 'kind = "kill"\ntarget = "tracking"')], 'no tracking server; set driver = "http"'),
        ([(KILL, 'kind = "reset"'), (CELL, 'faults = ["one"]\ndriver = "http"')], "set target = 'tracking'"),
        ([(KILL, 'kind = "power"'), (CELL, 'faults = ["one"]\ndriver = "http"')], 'set driver = "direct"'),
        ([(KILL, 'kind = "lock"'), ('workload = "w"', 'workload = "train"')], "use a workload of kind log_metric"),
        (
            [("[[criteria]]", '[[cells]]\nworkload = "w"\nconcurrency = [2]\nfaults = ["one"]\n[[criteria]]')],
            "twice at",
        ),
        ([("fault.kept == 1", "fault.kept == reference")], "reference"),
        ([("fault.kept == 1", "fault.keep == 1")], "unknown field 'fault.keep'"),
        ([('"fault.kept == 1"', '"fault.kept == 1"\nfaults = ["two"]')], "unknown fault 'two'"),
        ([(CELL, "")], "fits no cell"),
    ],
)
def test_what_is_wrong_is_said(pairs: list[tuple[str, str]], words: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_text(changed(*pairs), "my.toml")
    said = str(caught.value)
    assert words in said
    assert "\n" not in said
    assert said.startswith("my.toml")
