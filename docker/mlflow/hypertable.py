"""Make MLflow's schema in the database of MLFLOW_BACKEND_STORE_URI, with metrics as TimescaleDB's hypertable.

Run before the tracking server starts; does nothing where that is done already. The chunks are a day long, as those of
the servers that Trackbench starts itself (bench/stores/timescaledb.py; a test compares them).
"""

import os

from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import text

DAY_MS = 86_400_000


def main() -> None:
    """Make both."""
    store = SqlAlchemyStore(os.environ["MLFLOW_BACKEND_STORE_URI"], "mlflow-artifacts:/")
    with store.engine.begin() as connection:
        connection.execute(text("CREATE EXTENSION IF NOT EXISTS timescaledb"))
        connection.execute(
            text(
                f"SELECT create_hypertable('metrics', by_range('timestamp', {DAY_MS}), "
                "if_not_exists => true, migrate_data => true)"
            )
        )
    store.engine.dispose()


if __name__ == "__main__":
    main()
