"""Trackbench as a plain locustfile: ``locust -f loadtests/``.

Choose one user class: those that begin with Direct write into the store's tables, the others speak to an MLflow
server. ``locust -f loadtests/ --help`` lists Trackbench's own arguments among Locust's.
"""

from loadtests import _events
from loadtests._direct import (
    DirectBulkUser,
    DirectLogBatchUser,
    DirectLogMetricUser,
    DirectMixedUser,
    DirectReadUser,
    DirectTrainUser,
)
from loadtests._users import LogBatchUser, LogMetricUser, MixedUser, ReadUser, TracesUser, TrainUser

__all__ = [
    "DirectBulkUser",
    "DirectLogBatchUser",
    "DirectLogMetricUser",
    "DirectMixedUser",
    "DirectReadUser",
    "DirectTrainUser",
    "LogBatchUser",
    "LogMetricUser",
    "MixedUser",
    "ReadUser",
    "TracesUser",
    "TrainUser",
]

_events.install()
