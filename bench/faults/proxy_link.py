"""One connection through the proxy: what passes, what waits and what is cut."""

import asyncio
import errno
import socket
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal

from bench.faults.proxy_sockets import AbortWatch, Bucket, Side

_PIECE: Final = 64 * 1024  # read at once
_HOLD: Final = 128 * 1024  # held of a direction before its sender has to wait
_WINDOW: Final = 4 * 1024 * 1024  # the same under latency: as much may be under way, like a TCP window
_OVERHEAD: Final = 512  # what a held piece costs beside its bytes: else a sender of single bytes would have no bound


@dataclass(frozen=True)
class Impairment:
    """What is wrong with the network, for all connections that there are and that are made while it lasts.

    - ``latency``: what one side sends, its end too, arrives ``delay_ms`` later at the other, in each direction and in
      order. What is under way is not counted against any rate, but is at most 4 MiB a direction and connection.
    - ``throttle``: at most ``bytes_per_s`` in each direction of each connection, in bursts of at most 20 ms' worth
      (one byte at least).
    - ``blackhole``: nothing passes in either direction, no end and no abort either, and nothing is read: a sender's
      bytes stay in the kernel's buffers. New connections open, but no one connects to the server for them until the
      blackhole ends. Then all that was held goes on in order, ends included, as retransmission would do it: a server's
      session whose client has given up learns of it then. What was in the server's or the client's kernel before is
      past the hole.
    - ``reset``: of the next bytes that a connection gets from the server the first half is passed on, at least one
      byte is not, and then the client gets an RST; the server sees its connection closed. So for every connection that
      gets an answer meanwhile, as often as the client comes back.

    Raises:
        ValueError: latency without a delay or throttle without a rate.
    """

    kind: Literal["latency", "throttle", "blackhole", "reset"]
    delay_ms: float = 0
    bytes_per_s: int = 0

    def __post_init__(self) -> None:
        if self.kind == "latency" and not self.delay_ms > 0:
            raise ValueError(f"latency of {self.delay_ms} ms")
        if self.kind == "throttle" and self.bytes_per_s < 1:
            raise ValueError(f"throttle to {self.bytes_per_s} bytes/s")


class Network:
    """What all connections of a proxy share: the impairment of the moment, the way to the server, who is connected.

    ``cut`` counts the connections that a ``reset`` ended.
    """

    def __init__(self, addresses: list[tuple[int, Any]]) -> None:
        self.addresses = addresses
        self.impairment: Impairment | None = None
        self.links: dict[Link, None] = {}  # in the order in which they were opened
        self.cut = 0
        self.loop = asyncio.get_running_loop()
        self.watch = AbortWatch(self.loop)
        self.buffer = memoryview(bytearray(_PIECE))

    def has(self, kind: str) -> bool:
        """Whether this is the impairment of the moment."""
        return self.impairment is not None and self.impairment.kind == kind

    def change(self, impairment: Impairment | None) -> None:
        """Another impairment, or none, for all connections at once."""
        self.impairment = impairment
        for link in tuple(self.links):
            link.changed()


class Link:
    """One connection: the client's side, the server's side once there is one, and a lane for each direction."""

    def __init__(self, network: Network, client: socket.socket) -> None:
        self.network = network
        self.client = Side(network.loop, client)
        self.server: Side | None = None
        self.lanes: tuple[_Lane, ...] = ()
        self.closed = False
        self._addresses = iter(network.addresses)
        network.links[self] = None
        self.changed()

    def changed(self) -> None:
        """The impairment is another."""
        dark = self.network.has("blackhole")
        for lane in self.lanes:
            lane.changed()
        if not self.lanes and self.server is not None:  # what came of our SYN may be there, but must not be seen
            self.server.on_writable(None if dark else self._connected)
        elif not self.lanes and not dark:
            self._connect()

    def _connect(self) -> None:
        for family, address in self._addresses:
            with suppress(OSError):
                self.server = Side(self.network.loop, socket.socket(family, socket.SOCK_STREAM))
                with suppress(BlockingIOError):
                    self.server.sock.connect(address)
                self.server.on_writable(self._connected)
                return
            self._not_connected()
        self.end(self.client)

    def _connected(self) -> None:
        assert self.server is not None
        self.server.on_writable(None)
        error = self.server.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self.server.broken = error in (errno.ECONNRESET, errno.EPIPE)  # it was there, and has gone again
        if error and not self.server.broken:
            self._not_connected()
            self._connect()
            return
        self.lanes = _Lane(self, self.client, self.server), _Lane(self, self.server, self.client)
        for lane in self.lanes:
            lane.changed()

    def _not_connected(self) -> None:
        if self.server is not None:
            self.server.close(reset=False)
            self.server = None

    def opposite(self, lane: "_Lane") -> "_Lane":
        """The lane of the other direction."""
        return self.lanes[1] if lane is self.lanes[0] else self.lanes[0]

    def cut(self, answer: memoryview) -> None:
        """Pass half of an answer on, then reset."""
        with suppress(OSError):
            self.client.sock.send(answer[: len(answer) // 2])
        self.network.cut += 1
        self.end(self.client)

    def end(self, *resets: Side | None) -> None:
        """Close both sides, those that are given with an RST."""
        if self.closed:
            return
        self.closed = True
        for lane in self.lanes:
            lane.stop()
        for side in (self.client, self.server):
            if side is not None:
                side.close(reset=side in resets)
        del self.network.links[self]


class _End(Enum):
    EOF = "half-close"
    ABORT = "abort"


_Item = memoryview | _End


class _Lane:
    """One direction of a connection: what was read from its source and waits for its sink.

    ``ended``: the source's end or abort has been read. ``done``: the sink has been told of the end.
    ``held``: bytes in waiting, with their overhead. ``choked``: the sink took less than it was given.
    """

    def __init__(self, link: Link, source: Side, sink: Side) -> None:
        self.source, self.sink = source, sink
        self.ended = self.done = self.choked = False
        self.held = 0
        self._link, self._network = link, link.network
        self._waiting: deque[tuple[float, _Item]] = deque()  # with the time from which latency lets it pass
        self._bucket: Bucket | None = None
        self._timer: asyncio.TimerHandle | None = None

    def changed(self) -> None:
        """The impairment is another: what waits follows its rule from now on."""
        if self._link.closed:
            return
        now = self._network.impairment
        self._bucket = Bucket(now.bytes_per_s) if now is not None and now.kind == "throttle" else None
        self._pump()

    def stop(self) -> None:
        """Nothing more will be done; before the sockets are closed."""
        self._empty()
        self._network.watch.look(self.source, None)

    def take(self, item: _Item) -> None:
        """What was read from the source, or befell it, goes to the end of the queue."""
        if self.sink.broken and item is not _End.ABORT:
            return
        if isinstance(item, _End):
            self.ended = True
        if item is _End.ABORT:
            self.source.broken = True
            self._link.opposite(self).drop()
        now = self._network.impairment
        due = time.monotonic() + now.delay_ms / 1000 if now is not None and now.kind == "latency" else 0.0
        self._waiting.append((due, item))
        self.held += _cost(item)
        self._pump()

    def drop(self) -> None:
        """The sink is lost: what waits for it goes nowhere, and no more is read for it."""
        self._empty()
        self._arm()

    def _empty(self) -> None:
        self._waiting.clear()
        self.held = 0
        self.choked = False
        self._cancel()

    def _readable(self) -> None:
        try:
            size = self.source.sock.recv_into(self._network.buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.take(_End.ABORT)
            return
        if size == 0:
            self.take(_End.ABORT if self.source.broken else _End.EOF)
            return
        piece = self._network.buffer[:size]
        if self._network.impairment is None and not self._waiting:  # by far the most frequent case: nothing is copied
            sent = self._send(piece)
            if sent == size:
                return
            piece = piece[sent:]
        self.take(memoryview(bytes(piece)))

    def _aborted(self) -> None:
        """The source, which is not being read, was aborted."""
        if self.ended:
            self.take(_End.ABORT)
            return
        self._pump()
        if self.choked and not self._link.closed:
            self._link.end(self.sink)

    def _pump(self) -> None:
        """Pass on what may pass now, and see to it that the rest is thought of."""
        self._cancel()
        self.choked = False
        while self._waiting and not (self.choked or self._link.closed or self._network.has("blackhole")):
            due, item = self._waiting[0]
            if (wait := self._wait(due, item)) > 0:
                self._timer = self._network.loop.call_later(wait, self._pump)
                break
            if isinstance(item, memoryview):
                self._pass_bytes(due, item)
            else:
                self._pass_end(item)
        if not self._link.closed:
            self._arm()

    def _wait(self, due: float, item: _Item) -> float:
        """Seconds until something of this may pass."""
        if self._network.has("latency"):
            return due - time.monotonic()
        return self._bucket.wait(len(item)) if self._bucket is not None and isinstance(item, memoryview) else 0.0

    def _pass_bytes(self, due: float, item: memoryview) -> None:
        if self._network.has("reset") and self.sink is self._link.client:
            self._link.cut(item)
            return
        part = item if self._bucket is None else item[: self._bucket.tokens()]
        sent = self._send(part)
        if self._bucket is not None:
            self._bucket.take(sent)
        if self.sink.broken:  # lost just now, and all that waited for it dropped
            return
        self._waiting.popleft()
        self.held -= _cost(item)
        if sent < len(item):
            self._waiting.appendleft((due, item[sent:]))
            self.held += _cost(item[sent:])
        self.choked = sent < len(part)
        if self.choked and self.source.broken:  # else nobody would be told for as long as the sink does not read
            self._link.end(self.sink)

    def _pass_end(self, item: _End) -> None:
        if item is _End.ABORT:
            self._link.end(self.sink)
            return
        self._waiting.popleft()
        self.held -= _cost(item)
        self.done = True
        with suppress(OSError):
            self.sink.sock.shutdown(socket.SHUT_WR)
        if self._link.opposite(self).done:
            self._link.end()

    def _send(self, piece: memoryview) -> int:
        """How many bytes the sink took."""
        try:
            return self.sink.sock.send(piece)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            self._sink_lost()
            return 0

    def _sink_lost(self) -> None:
        """The sink was aborted. What it said before is still to be read, and its abort is read behind it."""
        self.sink.broken = True
        self.drop()
        opposite = self._link.opposite(self)
        if opposite.ended or opposite.choked:  # there nothing is read any more, or not soon
            opposite.take(_End.ABORT)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        """Look out for those events that the state of things has a use for."""
        self.sink.on_writable(self._pump if self.choked else None)
        limit = _WINDOW if self._network.has("latency") else _HOLD
        reading = not (self.ended or self.sink.broken or self.held >= limit or self._network.has("blackhole"))
        self.source.on_readable(self._readable if reading else None)
        unseen = (self.ended or self.choked) and not reading
        self._network.watch.look(self.source, self._aborted if unseen else None)


def _cost(item: _Item) -> int:
    return _OVERHEAD + (len(item) if isinstance(item, memoryview) else 0)
