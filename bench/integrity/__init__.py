"""Compares what is stored with what the ledger says. Nothing but `readback` talks to a database."""

from bench.integrity.readback import TABLES, Expected, read_back, reconcile
from bench.integrity.tally import Tally

__all__ = ["TABLES", "Expected", "Tally", "read_back", "reconcile"]
