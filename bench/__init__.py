"""Trackbench: may an MLflow tracking store move off SQLite, to which database, and did the move pass?"""
