"""A scenario reduced to what the user asked for on the command line."""

from collections.abc import Collection

from bench.errors import BadInput
from bench.judge.criteria import parse
from bench.judge.places import cells_of
from bench.scenario import CandidateSpec, Scenario
from bench.stores import NAMES


def with_stores(scenario: Scenario, stores: Collection[str]) -> Scenario:
    """The scenario reduced to the stores that the user named (``--store``); candidates are made where none fits.

    The reference stays only if the user named its store too, or if the scenario says ``keep_reference``.
    """
    kept = {name: spec for name, spec in scenario.candidates.items() if spec.store in stores}
    for store in stores:
        if store not in NAMES:
            raise BadInput(f"--store {store}: unknown store; use one of {', '.join(NAMES)}")
        if not any(spec.store == store for spec in kept.values()):
            name = store if store not in scenario.candidates else f"{store}-store"
            kept[name] = CandidateSpec.model_validate({"store": store})
    reference = scenario.reference if scenario.reference in kept else None
    if reference is None and scenario.keep_reference and scenario.reference is not None:
        kept = {scenario.reference: scenario.candidates[scenario.reference], **kept}
        reference = scenario.reference
    criteria = [
        item for item in scenario.criteria if reference is not None or not parse(item.expression).uses_reference
    ]
    control = scenario.control if scenario.control in ("", *kept) else None
    return scenario.model_copy(
        update={"candidates": kept, "reference": reference, "criteria": criteria, "control": control}
    )


def without_direct(scenario: Scenario, stores: Collection[str]) -> tuple[Scenario, list[str]]:
    """The scenario without direct cells, and what was left out in words, where these stores can't be reached by SQL.

    Raises:
        BadInput: nothing is left.
    """
    if not any(spec.store in stores for spec in scenario.candidates.values()):
        return scenario, []
    cells = [cell for cell in scenario.cells if cell.driver == "http"]
    if not cells:
        raise BadInput(
            "this scenario has no HTTP cell, so a tracking server alone can't be measured; add --store NAME=URL"
        )
    left_out = [f"direct {cell.workload}" for cell in scenario.cells if cell.driver == "direct"]
    reduced = scenario.model_copy(update={"cells": cells})
    criteria = [one for one in scenario.criteria if cells_of(one, reduced)]
    return reduced.model_copy(update={"criteria": criteria}), left_out
