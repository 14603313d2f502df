"""Whether what MLflow and its database say to each other is encrypted, and whether it has to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bench.readiness.check import Check, Outcome


@dataclass(frozen=True)
class Wire:
    """How MLflow's own driver reaches the server with this URL, and what the server would admit beside that.

    ``private``: the server listens on its own machine's loopback only (None: that is not known).
    """

    encrypted: bool
    protocol: str
    verified: bool
    unencrypted: Literal["refused", "admitted", "unknown"]
    local: bool
    private: bool | None
    verify: str  # what to add to the URL
    demand: str  # what makes the server refuse the rest

    @property
    def stays_here(self) -> bool:
        """Whether nothing of it leaves the machine."""
        return self.local and self.private is True


def checks(wire: Wire) -> list[Check]:
    """``tls`` (MLflow's sessions) and ``tls_required`` (everybody's)."""
    return [_session(wire), _demand(wire)]


def _session(wire: Wire) -> Check:
    outcome: Outcome
    if wire.encrypted and wire.verified:
        outcome, found, remedy = "pass", f"{wire.protocol}, and the server's name and certificate are verified", ""
    elif wire.stays_here:
        how = f"{wire.protocol}, not verified" if wire.encrypted else "no TLS"
        outcome, found, remedy = "pass", f"{how}; the server listens on this machine's loopback only", ""
    elif wire.encrypted:
        outcome = "warn"
        found = f"{wire.protocol}, but anybody on the way could pose as the server: nothing is verified"
        remedy = f"add {wire.verify} to the URL"
    else:
        outcome = "warn" if wire.local else "fail"
        found = "MLflow's sessions are not encrypted: passwords' proofs, params and traces pass in the clear"
        remedy = f"give the server a certificate, then add {wire.verify} to the URL"
    return Check(name="tls", title="TLS of MLflow's sessions", outcome=outcome, found=found, remedy=remedy)


def _demand(wire: Wire) -> Check:
    outcome: Outcome
    if wire.unencrypted == "refused":
        outcome, found, remedy = "pass", "the server refuses this login without TLS", ""
    elif wire.stays_here:
        outcome, found, remedy = "pass", "not required, but the server listens on this machine's loopback only", ""
    elif wire.unencrypted == "unknown":
        outcome, found, remedy = (
            "unknown",
            "the server did not say whether it admits this login without TLS",
            wire.demand,
        )
    else:
        outcome = "warn" if wire.local else "fail"
        found = "the server admits this login without TLS: a client that is set up wrongly goes unnoticed"
        remedy = wire.demand
    return Check(name="tls_required", title="TLS required by the server", outcome=outcome, found=found, remedy=remedy)
