"""Compares what is stored with what the ledger says. Nothing but `readback` talks to a database."""

from bench.integrity.readback import TABLES, Expected, Rows, SqlRows, read_back, read_traces, reconcile
from bench.integrity.tally import Tally

__all__ = ["TABLES", "Expected", "Rows", "SqlRows", "Tally", "read_back", "read_traces", "reconcile"]
