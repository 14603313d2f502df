"""What MLflow's REST client does after a failure (its ``MLFLOW_HTTP_REQUEST_…`` defaults, urllib3's ``Retry``)."""

import random

RETRIES = 7
_BACKOFF_S, _LONGEST_S, _JITTER_S = 2, 120, 1.0


def pause_s(attempts: int) -> float:
    """How long to wait after so many attempts: not at all before the first retry, then twice as long each time."""
    if attempts == 1:
        return 0.0
    return min(_LONGEST_S, _BACKOFF_S * 2.0 ** (attempts - 1) + random.uniform(0, _JITTER_S))
