"""A power cut under SQLite, on a model of a disk.

No machine is switched off. SQLite and MLflow's own statements run over a disk in memory (`disk`, `vfs`, `session`) that
is honest about fsync and promises nothing else; after each event on it the power is cut, and what a machine would find
is opened and read back by Python's own SQLite (`experiment`). What that can't show: a disk that lies about fsync, a
sector torn in itself, bits that rot.
"""

from bench.faults.power.experiment import PowerLoss, lose_power

__all__ = ["PowerLoss", "lose_power"]
