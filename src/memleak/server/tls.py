"""TLS over streams that have been read from already.

A client sends its first bytes of TLS right behind the packet that asks for it. Both may have been received at once, and
asyncio's `start_tls` would lose them.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Optional

from ..errors import TargetError

_CHUNK = 1 << 16


def tls_context(certificate: str, key: Optional[str]) -> ssl.SSLContext:
    """Return what serves TLS 1.2 and later with a certificate.

    Raises:
        TargetError: it cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise TargetError(f"{certificate}: no certificate with its key can be read there: {error}") from error
    return context


class TlsStreams:
    """The server's end: what of a reader and a writer is used here, encrypted."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext) -> None:
        """Take the streams of the connection."""
        self._reader, self._writer = reader, writer
        self._received, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._received, self._to_send, server_side=True)
        self._plain = bytearray()

    async def handshake(self) -> None:
        """Agree on keys with the client."""
        await self._driven(self._object.do_handshake)
        self._send()
        await self.drain()

    async def readexactly(self, count: int) -> bytes:
        """Return so many bytes.

        Raises:
            asyncio.IncompleteReadError: the client ended before.
        """
        while len(self._plain) < count:
            self._plain += await self._driven(lambda: self._object.read(_CHUNK))
        found = bytes(self._plain[:count])
        del self._plain[:count]
        return found

    def write(self, data: bytes) -> None:
        """Send, at the next `drain` at the latest."""
        self._object.write(data)
        self._send()

    async def drain(self) -> None:
        """Wait until there is room for more."""
        await self._writer.drain()

    async def _driven(self, step: Callable[[], Any]) -> Any:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self._send()
                data = await self._reader.read(_CHUNK)
                if not data:
                    raise asyncio.IncompleteReadError(b"", None) from None
                self._received.write(data)
            except ssl.SSLError as error:
                self._send()
                raise ConnectionError(str(error)) from error

    def _send(self) -> None:
        data = self._to_send.read()
        if data:
            self._writer.write(data)
