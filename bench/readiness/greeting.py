"""What a PostgreSQL server answers a login before any secret is sent: refused, or how it wants the password.

A session that names its user and its database and then leaves: no password, nor anything derived from it, is sent, so
that it may be tried without TLS too.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from contextlib import suppress
from typing import Final, Literal

Greeting = Literal["refused", "no TLS", "trust", "password", "md5", "scram-sha-256", "other"]
_METHODS: Final[dict[int, Greeting]] = {0: "trust", 3: "password", 5: "md5", 10: "scram-sha-256"}
_SSL_REQUEST, _VERSION_3 = 80877103, 196608
_NO_ENTRY = "28000"  # no line of pg_hba.conf admits it
_LIMIT_S = 20


class Unanswered(Exception):
    """The server said something else: too many connections, it starts up, …"""


async def greet(host: str, port: int, user: str, database: str, *, encrypted: bool) -> Greeting:
    """How the server takes a login from here.

    Raises:
        Unanswered: it is busy with something else.
        OSError, TimeoutError: it can't be reached.
    """
    async with asyncio.timeout(_LIMIT_S):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            if encrypted and not await _with_tls(reader, writer):
                return "no TLS"
            words = f"user\0{user}\0database\0{database}\0\0".encode()
            writer.write(struct.pack("!II", len(words) + 8, _VERSION_3) + words)
            return await _answer(reader)
        except asyncio.IncompleteReadError as error:
            raise Unanswered("it closed the connection") from error
        finally:
            with suppress(OSError):
                writer.write(b"X\0\0\0\4")  # "terminate": it need not log that we vanished
            writer.close()
            with suppress(OSError, ssl.SSLError):
                await writer.wait_closed()


async def _with_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    writer.write(struct.pack("!II", 8, _SSL_REQUEST))
    if await reader.readexactly(1) != b"S":
        return False
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # nothing secret follows
    context.verify_mode = ssl.CERT_NONE
    await writer.start_tls(context)
    return True


async def _answer(reader: asyncio.StreamReader) -> Greeting:
    while True:
        kind, length = struct.unpack("!cI", await reader.readexactly(5))
        body = await reader.readexactly(length - 4)
        if kind == b"R":
            return _METHODS.get(struct.unpack("!I", body[:4])[0], "other")
        if kind == b"E":
            fields = {part[:1]: part[1:].decode(errors="replace") for part in body.split(b"\0") if part}
            if fields.get(b"C") == _NO_ENTRY:
                return "refused"
            raise Unanswered(fields.get(b"M", "an error without words"))
