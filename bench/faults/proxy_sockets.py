"""What a proxied connection stands on: its sockets, the tokens of a throttle, and a watch for aborts."""

import asyncio
import select
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

_BURST_S: Final = 0.02  # a throttled direction may send at once what it may send in this time
_LINGER_NONE: Final = struct.pack("ii", 1, 0)  # close() then sends RST and drops what was not sent


class Side:
    """One side of a connection, and which of its events the loop looks out for.

    ``broken`` says that it was aborted from afar: nothing can be sent to it any more, what it sent before can be read.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.broken = False
        self._loop = loop
        self._reading = self._writing = False

    def on_readable(self, call: Callable[[], None] | None) -> None:
        """Call it whenever there is something to read; None: don't look."""
        if call is not None and not self._reading:
            self._loop.add_reader(self.sock, call)
        elif call is None and self._reading:
            self._loop.remove_reader(self.sock)
        self._reading = call is not None

    def on_writable(self, call: Callable[[], None] | None) -> None:
        """Call it whenever something can be sent; None: don't look."""
        if call is not None and not self._writing:
            self._loop.add_writer(self.sock, call)
        elif call is None and self._writing:
            self._loop.remove_writer(self.sock)
        self._writing = call is not None

    def close(self, reset: bool) -> None:
        """Close it, with an RST if asked to."""
        self.on_readable(None)
        self.on_writable(None)
        if reset:
            with suppress(OSError):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
        self.sock.close()


class AbortWatch:
    """Tells of an abort by a side that is not being read; an event loop only tells those who read or write.

    Every epoll reports an RST, asked or not, and can itself be looked at by the loop. Elsewhere than on Linux such an
    abort is seen when its side is read or written to again.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: dict[int, Callable[[], None]] = {}
        self._epoll: select.epoll | None = None
        if sys.platform == "linux":
            self._epoll = select.epoll()
            loop.add_reader(self._epoll.fileno(), self._seen)

    def look(self, side: Side, call: Callable[[], None] | None) -> None:
        """Call it when the side has been aborted, now if it is; None: don't look, as before its socket is closed."""
        number = side.sock.fileno()
        if self._epoll is None or (call is not None) == (number in self._calls):
            return
        if call is not None:
            self._calls[number] = call
            self._epoll.register(number, select.EPOLLET)  # on edges: an end of both directions is told for ever else
        else:
            del self._calls[number]
            self._epoll.unregister(number)

    def _seen(self) -> None:
        assert self._epoll is not None
        for number, events in self._epoll.poll(0):
            call = self._calls.get(number)
            if call is not None and events & select.EPOLLERR:
                call()

    def close(self) -> None:
        """Look no more."""
        if self._epoll is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None


class Bucket:
    """Tokens of one byte each, that come at a steady rate (bytes/s); never more of them than 20 ms bring, or one."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._most = max(1.0, rate * _BURST_S)
        self._tokens = self._most
        self._at = time.monotonic()

    def tokens(self) -> int:
        """How many bytes may be sent now."""
        now = time.monotonic()
        self._tokens = min(self._most, self._tokens + (now - self._at) * self._rate)
        self._at = now
        return int(self._tokens + 1e-6)

    def take(self, count: int) -> None:
        """So many were sent."""
        self._tokens -= count

    def wait(self, wanted: int) -> float:
        """Seconds until as many bytes as wanted may be sent, or as many as ever may be at once."""
        missing = min(wanted, int(self._most)) - self.tokens()
        return missing / self._rate if missing > 0 else 0.0
