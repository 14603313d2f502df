"""Judging: pure functions from samples and rounds to cells, criteria and a verdict."""
