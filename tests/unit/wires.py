"""A server behind a proxy and its clients, as bare sockets: what they hear, and how it ends."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

from bench.faults.proxy import Impairment, Proxy

BLACKHOLE, RESET = Impairment("blackhole"), Impairment("reset")
NEVER = Impairment("latency", delay_ms=600_000)
SLOW = Impairment("throttle", bytes_per_s=1)
_CLOSED = 7  # Linux's TCP_CLOSE


def run(work: Awaitable[Any]) -> Any:
    """Run it within 30 s; afterwards no task, no timer and no socket is there that was not before."""
    before = descriptors()
    with asyncio.Runner() as runner:
        result = runner.run(_limited(work))
    assert descriptors() <= before
    return result


async def _limited(work: Awaitable[Any]) -> Any:
    result = await asyncio.wait_for(work, 30)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    timers = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    assert [timer for timer in timers if not timer.cancelled()] == []
    return result


def descriptors() -> set[str]:
    """The sockets and epolls of this process."""
    found = set()
    for path in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the listing's own
            found.add(f"{path.name} {path.readlink()}")
    return {name for name in found if "socket:" in name or "eventpoll" in name}


class Wire:
    """A listening server behind a proxy, and the sockets of both sides."""

    def __init__(self, proxy: Proxy, listener: socket.socket) -> None:
        self.proxy = proxy
        self._listener = listener
        self._sockets: list[socket.socket] = []

    async def client(self) -> socket.socket:
        """A new connection to the proxy."""
        sock = socket.socket()
        sock.setblocking(False)
        self._sockets.append(sock)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.proxy.port))
        return sock

    async def server(self) -> socket.socket:
        """The server's side of the next connection that gets there."""
        sock, _ = await asyncio.get_running_loop().sock_accept(self._listener)
        sock.setblocking(False)
        self._sockets.append(sock)
        return sock

    async def pair(self, turned: bool = False) -> tuple[socket.socket, socket.socket]:
        """Both sides of a new connection, which the proxy has made, the client's first (``turned``: the server's)."""
        client, server = await self.client(), await self.server()
        await until(lambda: all(link.lanes for link in self.proxy._network.links))
        return (server, client) if turned else (client, server)

    def close(self) -> None:
        """The sockets of both sides."""
        for sock in self._sockets:
            sock.close()


@asynccontextmanager
async def wired(impairment: Impairment | None = None) -> AsyncIterator[Wire]:
    """A server behind a proxy that is impaired from the start."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        listener.setblocking(False)
        proxy = await Proxy.start("127.0.0.1", listener.getsockname()[1])
        wire = Wire(proxy, listener)
        try:
            if impairment is not None:
                proxy.impair(impairment)
            yield wire
        finally:
            await proxy.close()
            wire.close()


async def send(sock: socket.socket, data: bytes) -> None:
    """All of it."""
    await asyncio.get_running_loop().sock_sendall(sock, data)


async def receive(sock: socket.socket, size: int) -> bytes:
    """So many bytes."""
    data = b""
    while len(data) < size:
        piece = await asyncio.get_running_loop().sock_recv(sock, size - len(data))
        assert piece, f"ended after {data!r}"
        data += piece
    return data


async def rest(sock: socket.socket) -> tuple[bytes, str]:
    """All bytes until the end, and which end it was."""
    data = bytearray()
    try:
        while piece := await asyncio.get_running_loop().sock_recv(sock, 1 << 18):
            data += piece
    except ConnectionResetError:
        return bytes(data), "reset"
    return bytes(data), "end"


async def is_silent(sock: socket.socket) -> bool:
    """Whether neither bytes nor an end arrive, as far as that can be known by waiting."""
    try:
        await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 1), 0.1)
    except TimeoutError:
        return True
    return False


def abort(sock: socket.socket) -> None:
    """Close it with an RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def is_reset(sock: socket.socket) -> bool:
    """Whether an RST has arrived, without reading anything."""
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _CLOSED


async def until(holds: Callable[[], bool]) -> None:
    """Until it is so."""
    while not holds():  # noqa: ASYNC110 (what the kernel has heard of sends no event)
        await asyncio.sleep(0)


async def fill(sock: socket.socket) -> int:
    """Send zeros until nobody takes any more, as far as that can be known by waiting; how many that were."""
    sent, piece = 0, bytes(1 << 16)
    while True:
        await asyncio.sleep(0)
        with suppress(BlockingIOError):
            sent += sock.send(piece)
            continue
        try:
            await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(sock, b"\0"), 0.1)
        except TimeoutError:
            return sent
        sent += 1
