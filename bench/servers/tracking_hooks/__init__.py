"""What Trackbench puts into the processes of a tracking server that it starts, so that their errors are counted.

The command stays MLflow's own `mlflow server`. This folder is on its PYTHONPATH, and Python imports
`sitecustomize` by itself in every process of it: the command, uvicorn's parent, and each worker that uvicorn spawns.
"""

import struct

COUNT = struct.Struct("=q")
ERRORS_VARIABLE = "TRACKBENCH_ERRORS_FILE"  # where workers append a label a line
HEADER = "X-Trackbench-Errors"
UNDER_WAY = ".under-way."  # after the same name, with a worker's process id: how many requests it serves now
