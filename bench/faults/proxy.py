"""The network between a load and its server: a TCP proxy on loopback that can be made slow, narrow, silent or brutal.

It works on the sockets themselves, not on asyncio's transports: those read on, write on and close by themselves,
and here nothing may pass, not even an end, that the impairment of the moment does not let pass.

Without an impairment bytes pass as they come, a half-close of one side becomes one of the other, and an abort (RST) of
one side, seen behind what it sent before, becomes an abort of the other. A side that does not read is not read for:
what the proxy holds of a direction is bounded, and its sender waits as it would for the receiver. An abort overtakes
only what the other side would not take.

What can't be had above TCP: the kernel acknowledges what the proxy has not read, so that a sender's buffer empties
and no keep-alive fails; the kernel's handshake is not delayed, so that a connection through ``latency`` opens one round
trip too early and one through ``blackhole`` opens at all, where a router would have swallowed its SYN.
"""

import asyncio
import socket
from contextlib import suppress
from typing import Any, Final

from bench.errors import BadInput
from bench.faults.proxy_link import Impairment, Link, Network
from bench.servers import places

__all__ = ["Impairment", "Proxy"]

_TRIES: Final = 20


class Proxy:
    """Passes connections to 127.0.0.1:`port` on to a server. All of it happens in the event loop that started it.

    ``connections`` is how many were opened to it since its start. A server that refuses a connection, or none there,
    gives the client an RST at once.
    """

    def __init__(self, listener: socket.socket, addresses: list[tuple[int, Any]]) -> None:
        self.port: int = listener.getsockname()[1]
        self.connections = 0
        self._network = Network(addresses)
        self._listener = listener
        self._network.loop.add_reader(listener, self._accept)

    @classmethod
    async def start(cls, host: str, port: int) -> "Proxy":
        """Listen on a free port below the ephemeral ones, for the server at ``host:port``, which need not be up.

        Raises:
            OSError: ``host`` has no address.
            BadInput: there is no free port.
            RuntimeError: the loop is not asyncio's own; uvloop tells only once of a socket that was aborted.
        """
        loop = asyncio.get_running_loop()
        if not isinstance(loop, asyncio.SelectorEventLoop):
            raise RuntimeError(f"the proxy can't work in a {type(loop).__module__} loop")
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return cls(_listen(), [(family, address) for family, _, _, _, address in found])

    @property
    def impairment(self) -> Impairment | None:
        """What is wrong now."""
        return self._network.impairment

    @property
    def cut(self) -> int:
        """How many connections a ``reset`` has ended since the start."""
        return self._network.cut

    @property
    def held(self) -> int:
        """Bytes, overhead included, that wait in the proxy itself and not in the kernel."""
        return sum(lane.held for link in self._network.links for lane in link.lanes)

    def impair(self, impairment: Impairment) -> None:
        """From now on the network is so; an earlier impairment ends."""
        self._network.change(impairment)

    def mend(self) -> None:
        """From now on all passes; what waited goes on at once."""
        self._network.change(None)

    async def close(self) -> None:
        """Abort all connections, on both sides, and listen no more; what was held is dropped. May be called twice."""
        if self._listener.fileno() < 0:
            return
        self._network.loop.remove_reader(self._listener)
        self._listener.close()
        for link in tuple(self._network.links):
            link.end(link.client, link.server)
        self._network.watch.close()

    def _accept(self) -> None:
        with suppress(OSError):  # none left, the client is gone again, or no descriptor is free: then it stays queued
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                Link(self._network, client)


def _listen() -> socket.socket:
    for _ in range(_TRIES):
        listener = socket.socket()
        listener.setblocking(False)
        try:
            listener.bind(("127.0.0.1", places.free_port()))
            listener.listen(1024)
        except OSError:  # another process was faster
            listener.close()
            continue
        return listener
    raise BadInput("no free port on 127.0.0.1 for a proxy")
