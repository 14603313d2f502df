"""One keep-alive connection to a tracking server: bytes out, an answer back, and never a second try.

It is made of geventhttpclient's parts, as Locust's FastHttpUser is, without what stands between them and a user:
redirects, cookies, and the silent resend of a GET whose connection was lost.
"""

import select
import socket
from contextlib import suppress
from typing import Any, NamedTuple

import gevent.socket
from gevent.monkey import get_original
from geventhttpclient.connectionpool import ConnectionPool, SSLConnectionPool
from geventhttpclient.response import HTTPParseError, HTTPSocketResponse
from geventhttpclient.url import URL

_BLOCK = 1 << 14
_HUNG_UP = getattr(select, "POLLRDHUP", select.POLLIN)  # POLLIN also tells of TLS tickets, which are no end
_poll = get_original("select", "poll")  # gevent's own would cost a switch of greenlets


class Answer(NamedTuple):
    """What a server said. ``errors`` is the header in which our tracking server names database errors."""

    status: int
    body: bytes
    errors: str


class NotSent(Exception):
    """No connection could be made: the request certainly never reached the server."""


class Lost(Exception):
    """The connection ended, or its answer made no sense, after the request had begun to go out."""


class Connection:
    """A connection to ``url``, opened when it is needed. ``timeout_s`` limits the opening; see `abort` for the rest."""

    def __init__(self, url: str, timeout_s: float) -> None:
        place = URL(url)
        port = place.port or (443 if place.scheme == "https" else 80)
        pool = SSLConnectionPool if place.scheme == "https" else ConnectionPool
        self._pool = pool(place.host, port, place.host, port, size=1, connection_timeout=timeout_s)
        self._socket: gevent.socket.socket | None = None
        self._idle = _poll()
        self.opened = 0  # how often

    def open(self) -> None:
        """Connect, if that is needed.

        Raises:
            NotSent: the server could not be reached.
        """
        if self._socket is not None:
            return
        try:
            self._socket = self._pool.get_socket()
        except Exception as error:
            raise NotSent(f"{type(error).__name__}: {error}") from error
        self.opened += 1
        self._socket.settimeout(None)  # a timer for each wait is dear; `abort` does it
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._idle = _poll()
        self._idle.register(self._socket.fileno(), _HUNG_UP)

    def exchange(self, request: bytes, method: str) -> Answer:
        """Send one request and read its whole answer.

        Raises:
            NotSent: the server could not be reached.
            Lost: the connection broke, or was broken by `abort`.
        """
        if self._socket is not None and self._idle.poll(0):
            self.close()  # the server has hung up since the last answer, as it may
        if self._socket is None:
            self.open()
        assert self._socket is not None
        try:
            self._socket.sendall(request)
            response = HTTPSocketResponse(self._socket, _BLOCK, method)
            body = response.read()
            if not response.message_complete:
                raise HTTPParseError("the answer ended early")
        except (OSError, HTTPParseError) as error:
            self.close()
            raise Lost(f"{type(error).__name__}: {error}") from error
        except BaseException:  # the user is killed
            self.close()
            raise
        if response.should_close():
            self.close()
        return Answer(response.get_code(), body, _text(response.get("x-trackbench-errors")))

    def abort(self) -> bool:
        """Break the exchange in flight from another greenlet: it ends with `Lost`. False if nothing is connected."""
        if self._socket is None:
            return False
        with suppress(OSError):
            self._socket.close()
        return True

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._socket is not None:
            self._pool.release_socket(self._socket)
            self._socket = None


def _text(value: Any) -> str:
    """A header's value, also where it came more than once."""
    return ",".join(value) if isinstance(value, list) else value or ""
