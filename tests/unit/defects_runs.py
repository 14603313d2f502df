"""The planted defects among params, tags, runs and experiments."""

from defects import HOUR_MS, PRIMARY_KEY, Scene, defect, pair
from planted import (
    ENDS_AGREE,
    EXPERIMENT,
    FAIL,
    HALVES,
    INFO,
    KEY,
    NAME_TAG,
    NAMED,
    NO_ORPHANS,
    UNIQUE,
    WITH_EXPERIMENT,
    Row,
    Stored,
    experiment_of,
)

from bench.identity import run_name
from bench.outcome import Outcome

NAME, STATUS, START, END, STAGE, IN_EXPERIMENT = 1, 2, 3, 4, 5, 6
HOLDS = 2 + 2 + 1 + 6  # of `train`: the run, its end, its params, its tag, its metrics
ROWS = 1 + 2 + 1 + 1 + 6 + 2  # the run, its params, its tag, its name tag, its metrics, their latest
# A run without its name is not found where a server chose the ids: all it holds is lost, and whole tables have it.
NAMELESS = {"lost": HOLDS, "unexpected": ROWS}


# Params and tags


@defect("batch", {"lost": 1})
def param_lost(it: Scene) -> str:
    return pair(it.stored.params.pop(3))


@defect("train", {"lost": 1})
def tag_lost(it: Scene) -> str:
    return pair(it.stored.tags.pop(2))


@defect("batch", {HALVES: 1, "recovered": 1, "indeterminate": 1})
def unknown_params_half_there(it: Scene) -> str:
    it.statuses[1][0] = INFO
    run = it.layout.run_id(1, 0)
    it.stored.params.remove(next(row for row in it.stored.params if row[0] == run))
    return "params: writer 1 commit 0"


@defect("batch", {HALVES: 1, "recovered": 1, "indeterminate": 2})
def reserved_tags_half_there(it: Scene) -> str:
    it.statuses[0][2] = Outcome.RESERVED
    del it.stored.tags[0:2]
    return "tags: writer 0 commit 2"


@defect("batch", {"duplicated": 1}, forbidden=PRIMARY_KEY)
def param_twice(it: Scene) -> str:
    it.stored.params.append(it.stored.params[0])
    return pair(it.stored.params[0])


def _cut(it: Scene, table: str) -> str:
    """At 64 letters, as a narrow column does."""
    place, row = next((n, row) for n, row in enumerate(it.stored.rows_of(table)) if len(row[2]) > 64)
    it.stored.change(table, place, 2, row[2][:64])
    return pair(row)


@defect("batch", {"corrupted": 1})
def param_truncated(it: Scene) -> str:
    return _cut(it, "params")


@defect("batch", {"corrupted": 1})
def tag_truncated(it: Scene) -> str:
    return _cut(it, "tags")


@defect("batch", {"corrupted": 1})
def tag_without_its_four_byte_letters(it: Scene) -> str:
    place, row = next((n, row) for n, row in enumerate(it.stored.tags) if "🜚" in row[2])
    it.stored.change("tags", place, 2, row[2].replace("🜚", "?"))
    return pair(row)


@defect("batch", {"corrupted": 1})
def param_with_a_blank_more(it: Scene) -> str:
    it.stored.change("params", 1, 2, it.stored.params[1][2] + " ")
    return pair(it.stored.params[1])


@defect("batch", {"corrupted": 1})
def tag_emptied(it: Scene) -> str:
    it.stored.change("tags", 0, 2, None)
    return pair(it.stored.tags[0])


@defect("batch", {"corrupted": 2})
def params_exchanged(it: Scene) -> str:
    one, two = it.stored.params[:2]
    it.stored.params[:2] = [(*one[:2], two[2]), (*two[:2], one[2])]
    return pair(two)


@defect("batch", {"lost": 1, "unexpected": 1})
def param_in_the_run_of_another_writer(it: Scene) -> str:
    row = it.stored.params.pop(0)
    it.stored.params.append((it.layout.run_id(1, 0), *row[1:]))
    return pair(row)


@defect("batch", {"lost": 1, "unexpected": 1})
def param_key_in_another_case(it: Scene) -> str:
    row = it.stored.params.pop(0)
    it.stored.params.append((row[0], row[1].upper(), row[2]))
    return pair(row)


@defect("batch", {"unexpected": 2})
def params_that_failed(it: Scene) -> str:
    it.statuses[0][0] = FAIL
    return pair(it.stored.params[0])


@defect("batch", {"unexpected": 1})
def tag_never_sent(it: Scene) -> str:
    it.stored.tags.append((it.layout.run_id(0, 0), "mlflow.note.content", "hello"))
    return pair(it.stored.tags[-1])


@defect("batch", {"unexpected": 1, NO_ORPHANS: 1}, by_name={"unexpected": 1})
def orphaned_param(it: Scene) -> str:
    it.stored.params.append((KEY.run_id(7, 0), "param0000n00000000", "x"))
    return f"run {KEY.run_id(7, 0)} have no run"


@defect("batch", {"unexpected": 1, NO_ORPHANS: 1}, by_name={"unexpected": 1})
def orphaned_tag(it: Scene) -> str:
    it.stored.tags.append((KEY.run_id(7, 0), "tag0000n00000000", "x"))
    return f"run {KEY.run_id(7, 0)} have no run"


@defect("batch", {"unexpected": 1})
def param_of_a_stranger(it: Scene) -> str:
    """In a run that is none of ours: only the count of the whole table shows it."""
    it.stored.params.append(("a" * 32, "x", "y"))
    return "params: 1 row more"


def _name_tag(it: Scene, number: int = 0) -> int:
    return [n for n, row in enumerate(it.stored.tags) if row[1] == NAME_TAG][number]


@defect("batch", {NAMED: 1})
def name_tag_missing(it: Scene) -> str:
    return f"name tag of run {it.stored.tags.pop(_name_tag(it))[0]}"


@defect("batch", {NAMED: 1})
def name_tag_changed(it: Scene) -> str:
    it.stored.change("tags", _name_tag(it), 2, "another")
    return f"name tag of run {it.stored.tags[_name_tag(it)][0]}"


@defect("batch", {NAMED: 2})
def name_tags_exchanged(it: Scene) -> str:
    for number, other in ((0, 1), (1, 0)):
        it.stored.change("tags", _name_tag(it, number), 2, run_name(it.stored.runs[other][0]))
    return f"name tag of run {it.stored.runs[1][0]}"


# Runs


def _drop(stored: Stored) -> Row:
    """The first run with all that it holds."""
    gone = stored.runs.pop(0)
    for table in ("metrics", "latest", "params", "tags"):
        setattr(stored, table, [row for row in getattr(stored, table) if row[0] != gone[0]])
    return gone


def _change(it: Scene, column: int, value: object) -> str:
    it.stored.change("runs", 0, column, value)
    return f"run {it.stored.runs[0][0]}"


@defect("train", {"lost": HOLDS})
def run_lost_with_all_it_held(it: Scene) -> str:
    return f"run {_drop(it.stored)[0]}"


@defect("train", {"lost": 2, NO_ORPHANS: 1}, by_name={"lost": HOLDS, "unexpected": ROWS - 2})
def run_lost_and_its_rows_left(it: Scene) -> str:
    run = it.stored.runs.pop(0)
    it.stored.tags.remove((run[0], NAME_TAG, run[NAME]))
    return f"rows of run {run[0]} have no run"


@defect("train", {"lost": 1})
def end_of_a_run_lost(it: Scene) -> str:
    _change(it, STATUS, "RUNNING")
    return f"end of {_change(it, END, None).removeprefix('run ')}"


@defect("batch", {"duplicated": 1, UNIQUE: 1}, forbidden=PRIMARY_KEY)
def run_twice(it: Scene) -> str:
    it.stored.runs.append(it.stored.runs[0])
    return f"run {it.stored.runs[0][0]} is there more than once"


@defect("train", {"corrupted": 1}, by_name=NAMELESS)
def run_renamed(it: Scene) -> str:
    return _change(it, NAME, "mine")


@defect("train", {"corrupted": 1})
def run_marked_deleted(it: Scene) -> str:
    return _change(it, STAGE, "deleted")


@defect("train", {"corrupted": 1})
def run_started_an_hour_later(it: Scene) -> str:
    return _change(it, START, it.stored.runs[0][START] + HOUR_MS)


@defect("train", {"corrupted": 1})
def run_ended_a_millisecond_later(it: Scene) -> str:
    return f"end of {_change(it, END, it.stored.runs[0][END] + 1).removeprefix('run ')}"


@defect("train", {"corrupted": 1, ENDS_AGREE: 1})
def run_killed_in_place_of_finished(it: Scene) -> str:
    return f"{_change(it, STATUS, 'KILLED')} is KILLED and has an end"


@defect("train", {"corrupted": 1, ENDS_AGREE: 1})
def finished_without_an_end(it: Scene) -> str:
    return f"{_change(it, END, None)} is FINISHED and has no end"


@defect("train", {ENDS_AGREE: 1})
def end_without_finished(it: Scene) -> str:
    return f"{_change(it, STATUS, 'RUNNING')} is RUNNING and has an end"


@defect("batch", {"unexpected": 1, "corrupted": 1})
def finished_by_nobody(it: Scene) -> str:
    _change(it, STATUS, "FINISHED")
    return f"end of {_change(it, END, 5).removeprefix('run ')}"


@defect("train", {"unexpected": 1})
def run_that_failed(it: Scene) -> str:
    """Its creation failed, so nothing else was sent; the run is there."""
    it.statuses[1][-it.layout.commits_per_cycle :] = [FAIL] + [Outcome.UNTOUCHED] * (it.layout.commits_per_cycle - 1)
    kept = it.stored.runs.pop()
    for table in ("metrics", "latest", "params"):
        setattr(it.stored, table, [row for row in getattr(it.stored, table) if row[0] != kept[0]])
    it.stored.tags = [row for row in it.stored.tags if row[0] != kept[0] or row[1] == NAME_TAG]
    it.stored.runs.append((*kept[:STATUS], "RUNNING", kept[START], None, *kept[STAGE:]))
    return f"run {kept[0]}"


@defect("train", {"unexpected": 1})
def run_never_planned(it: Scene) -> str:
    run = KEY.run_id(0, 9)
    it.stored.runs.append((run, run_name(run), "RUNNING", 0, None, "active", EXPERIMENT))
    it.stored.tags.append((run, NAME_TAG, run_name(run)))
    return "writer 0 never planned its run 9"


@defect("train", {WITH_EXPERIMENT: 1})
def run_in_another_experiment(it: Scene) -> str:
    return f"{_change(it, IN_EXPERIMENT, EXPERIMENT + 1)} lies in another experiment"


# Experiments, which a server always names


@defect("experiments", {"lost": 1, WITH_EXPERIMENT: 1})
def experiment_lost(it: Scene) -> str:
    return repr(it.stored.experiments.pop(0)[1])


@defect("experiments", {"lost": 1 + HOLDS})
def experiment_lost_with_its_run(it: Scene) -> str:
    _drop(it.stored)
    return repr(it.stored.experiments.pop(0)[1])


@defect("experiments", {"corrupted": 1})
def experiment_marked_deleted(it: Scene) -> str:
    it.stored.change("experiments", 0, 2, "deleted")
    return repr(it.stored.experiments[0][1])


@defect("experiments", {"duplicated": 1}, forbidden="a unique name, but in another workspace")
def experiment_twice(it: Scene) -> str:
    it.stored.experiments.append((888, *it.stored.experiments[0][1:]))
    return repr(it.stored.experiments[0][1])


@defect("experiments", {"unexpected": 1})
def experiment_never_planned(it: Scene) -> str:
    it.stored.experiments.append((888, KEY.name(0, 77), "active"))
    return repr(KEY.name(0, 77))


@defect("experiments", {"duplicated": 2, UNIQUE: 1, NAMED: 1})
def run_created_again(it: Scene) -> str:
    """What a client makes that tries create_run a second time: two runs of one name, counted with their ends."""
    run, name = it.stored.runs[0][:2]
    it.stored.runs.append(("again" + run[5:], *it.stored.runs[0][1:]))
    it.stored.tags.append(("again" + run[5:], NAME_TAG, name))
    return f"run {run} is there more than once"


@defect("experiments", {WITH_EXPERIMENT: 2})
def runs_in_each_others_experiments(it: Scene) -> str:
    places = [next(n for n, row in enumerate(it.stored.runs) if row[0] == KEY.run_id(writer, 0)) for writer in (0, 1)]
    for place, writer in zip(places, (1, 0), strict=True):
        it.stored.change("runs", place, IN_EXPERIMENT, experiment_of(writer, 0))
    return f"run {KEY.run_id(1, 0)} lies in another experiment"
