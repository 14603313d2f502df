"""Past runs, kept in an MLflow tracking store: `check` and `track` write there, `scenarios` and `past` read back.

A tracking store is whatever MLflow takes for one: a server (``http://…``), a database (``sqlite:///…``,
``postgresql://…``, ``mysql+pymysql://…``) or a folder. One experiment a scenario, one run a Trackbench run.
"""

from bench.history.logged import check, told, track
from bench.history.past import Kept, PastRun, past, scenarios
from bench.history.store import shown

__all__ = ["Kept", "PastRun", "check", "past", "scenarios", "shown", "told", "track"]
