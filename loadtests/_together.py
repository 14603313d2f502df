"""Where users meet before each operation, for workloads in lockstep: the worst case for locks."""

from gevent.event import Event


class Together:
    """A gate that opens once all who belong to it stand before it. Users may join and leave."""

    def __init__(self) -> None:
        self._members = 0
        self._waiting = 0
        self._gate = Event()

    def join(self) -> None:
        """One more to wait for."""
        self._members += 1

    def leave(self) -> None:
        """One fewer; the others may be complete without it."""
        self._members -= 1
        self._open_if_complete()

    def wait(self) -> None:
        """Until all others are here."""
        gate = self._gate
        self._waiting += 1
        self._open_if_complete()
        try:
            gate.wait()
        except BaseException:  # killed: it waits no longer, unless the gate has opened already
            self._waiting -= gate is self._gate
            raise

    def _open_if_complete(self) -> None:
        if 0 < self._members <= self._waiting:
            gate, self._gate, self._waiting = self._gate, Event(), 0
            gate.set()
