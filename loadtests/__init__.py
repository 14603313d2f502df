"""Locust: users that speak MLflow's REST API to a real tracking server, with the engine's ledger and samples."""
