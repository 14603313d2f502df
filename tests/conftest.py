"""What every test shares: MLflow never phones home, in this process and in those that tests start."""

import os

os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
