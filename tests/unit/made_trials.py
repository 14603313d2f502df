"""Trials and their records for tests, each with a sensible value for what a test does not name."""

from dataclasses import replace

from bench.plan import Trial
from bench.trial_record import TrialRecord

_TRIAL = Trial(
    number=1, round=0, candidate="a", driver="direct", workload="w", concurrency=4, warmup_s=0.0, duration_s=1.0,
    count=None, min_writes=0, identities=4,
)  # fmt: skip
_RECORD = TrialRecord(
    number=1, round=0, candidate="a", store="sqlite", driver="direct", workload="w", concurrency=4, started=""
)


def a_trial(**changes: object) -> Trial:
    """A trial with these changes."""
    return replace(_TRIAL, **changes)  # type: ignore[arg-type]


def a_record(**changes: object) -> TrialRecord:
    """A record with these changes."""
    return _RECORD.model_copy(update=changes)
