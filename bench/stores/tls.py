"""MySQL over verified TLS through aiomysql, which by itself goes on in the clear where a server offers no TLS."""

import ssl
import struct
from contextlib import suppress
from typing import Any

import aiomysql
import pymysql.err
from pymysql.charset import charset_by_name
from pymysql.connections import MAX_PACKET_LEN
from pymysql.constants import CLIENT, CR


def context(authority: str) -> ssl.SSLContext:
    """What PyMySQL makes of ``ssl_ca``: certificate and name must be right, old certificates of MySQL's own will do."""
    made = ssl.create_default_context(cafile=authority)
    made.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return made


async def connect(authority: str | None, **given: Any) -> "aiomysql.Connection":
    """A connection of aiomysql's; with an ``authority`` (a file) over TLS, to a server for which that one vouches.

    Raises:
        pymysql.err.OperationalError: no login; nothing that helps to guess the password was sent without TLS.
    """
    if authority is None:
        return await aiomysql.connect(**given)
    connection = _Verified(ssl=context(authority), **given)
    await connection._connect()
    return connection


class _Verified(aiomysql.Connection):  # type: ignore[misc]
    async def ensure_closed(self) -> None:
        """Close, and wait until TLS has said so too: it takes a round trip, and the loop may end before."""
        writer = self._writer
        await super().ensure_closed()
        if writer is not None:
            with suppress(OSError):
                await writer.wait_closed()

    async def _request_authentication(self) -> None:
        """Begin TLS before anything of the login is sent; on any event loop, where aiomysql wants asyncio's own."""
        if not self.server_capabilities & CLIENT.SSL:
            raise pymysql.err.OperationalError(CR.CR_CONN_HOST_ERROR, "the server offers no TLS, and ssl_ca wants it")
        self.client_flag |= CLIENT.SSL | CLIENT.MULTI_RESULTS
        charset: Any = charset_by_name(self.charset)
        self.write_packet(struct.pack("<iIB23s", self.client_flag, MAX_PACKET_LEN, charset.id, b""))
        try:
            await self._writer.start_tls(self._ssl_context, server_hostname=self._host)
        except OSError as error:  # of TLS too; aiomysql would keep the reason to itself
            raise pymysql.err.OperationalError(CR.CR_CONN_HOST_ERROR, f"TLS: {error}") from error
        self._reader._transport = self._writer.transport  # which StreamWriter does not tell it
        self._secure = True
        self.server_capabilities &= ~CLIENT.SSL  # begun: the driver must not begin it again
        await super()._request_authentication()
