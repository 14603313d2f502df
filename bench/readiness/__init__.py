"""Says what is not yet fit for production in the database behind an MLflow server: one `Check` a question."""
