"""MySQL's protocol, by mysql-mimic, with what that leaves open: refused logins end, and packets are bounded."""

import asyncio
import struct
from ssl import SSLContext
from typing import Any, Optional

from mysql_mimic import packets
from mysql_mimic.connection import Connection
from mysql_mimic.control import Control
from mysql_mimic.errors import MysqlError
from mysql_mimic.results import ensure_result_set
from mysql_mimic.stream import ConnectionClosed, MysqlStream

from . import codes
from .access import PLUGIN, Access, peer_of
from .codes import STATES, SqlError
from .session import Session
from .tls import TlsStreams

PACKET_MOST = 1 << 20
PREPARED_MOST = 256
LOGIN_S = 30.0  # a statement of another client may take 10 s
_REFUSAL_S = 0.2


class Stream:
    """mysql-mimic's stream, which is compiled and cannot be derived from, with another way of reading."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take both ends."""
        self._inner = MysqlStream(reader, writer)
        self.is_encrypted = False

    async def read(self) -> bytes:
        """Return one packet; the connection ends with its client, and with a packet that is too large."""
        try:
            header: bytes = await self._inner.reader.readexactly(4)
            (word,) = struct.unpack("<I", header)
            if word >> 24 != next(self._inner.seq) or word & 0xFFFFFF > PACKET_MOST:
                raise ConnectionClosed
            packet: bytes = await self._inner.reader.readexactly(word & 0xFFFFFF)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise ConnectionClosed from None
        if not packet:
            raise ConnectionClosed
        return packet

    async def start_tls(self, context: SSLContext) -> None:
        """Go on encrypted."""
        encrypted = TlsStreams(self._inner.reader, self._inner.writer, context)
        await encrypted.handshake()
        self._inner.reader = self._inner.writer = encrypted
        self.is_encrypted = True

    def __getattr__(self, name: str) -> Any:
        """Leave everything else to it."""
        return getattr(self._inner, name)


class Client(Connection):  # type: ignore[misc]
    """One connection."""

    def __init__(
        self, stream: Stream, session: Session, control: Control, access: Access, tls: Optional[SSLContext]
    ) -> None:
        """Note who is at the other end."""
        super().__init__(stream, session, control, access, ssl=tls)
        self._access = access
        self._socket = stream.writer.get_extra_info("socket")

    async def connection_phase(self) -> None:
        """Let the client in, or raise; it does not have all day."""
        await asyncio.wait_for(super().connection_phase(), LOGIN_S)

    async def authenticate(
        self,
        username: str,
        auth_response: bytes,
        client_plugin_name: Optional[str],
        connect_attrs: dict[str, str],
        auth_state: Any = None,
        server_plugin: Any = None,
    ) -> None:
        """Check the password; where mysql-mimic sends an error and goes on, raise.

        Raises:
            SqlError: wrong name or password, or no TLS though there is some.
        """
        peer = peer_of(self._socket)
        if self.ssl is not None and peer is None and not self.stream.is_encrypted:
            words = "Connections using insecure transport are prohibited while --require_secure_transport=ON."
            raise SqlError(codes.NOT_SECURE, words)
        assert self.handshake_auth_data is not None
        if client_plugin_name not in (None, PLUGIN):
            request = packets.make_auth_switch_request(
                server_charset=self.server_charset, plugin_name=PLUGIN, plugin_provided_data=self.handshake_auth_data
            )
            await self.stream.write(request)
            try:
                auth_response = await self.stream.read()
            except ConnectionClosed:
                auth_response = b""
        if not self._access.allows(username, auth_response, self.handshake_auth_data.rstrip(b"\0"), peer):
            await asyncio.sleep(_REFUSAL_S)
            given = "YES" if auth_response.strip(b"\0") else "NO"
            words = f"Access denied for user '{username}'@'localhost' (using password: {given})"
            raise SqlError(codes.ACCESS_DENIED, words)
        if self.session.database:
            await self.session.use(self.session.database)
        self.session.username = username
        await self.stream.write(self.ok())

    def error(self, *, msg: Any = "", code: int = codes.INTERNAL.number) -> bytes:
        """Return an error packet; of an exception that is MySQL's its own code and words, of others none."""
        if isinstance(msg, MysqlError):
            msg, code = msg.msg, msg.code
        elif isinstance(msg, Exception):
            msg = "malformed packet"
        state = STATES.get(int(code), "HY000").encode("ascii")
        return struct.pack("<BH", 0xFF, int(code)) + b"#" + state + str(msg).encode("utf-8", "replace")[:512]

    async def handle_query(self, data: bytes) -> None:
        """Answer one statement; what is not a result says how many warnings there are."""
        command = packets.parse_com_query(
            capabilities=self.capabilities, client_charset=self.client_charset, data=data
        )
        result = await ensure_result_set(await self.session.handle_query(command.sql, command.query_attrs))
        if result:
            await self.write_text_resultset(result)
        else:
            await self.stream.write(self.ok(warnings=len(self.session.warnings)))

    async def handle_stmt_prepare(self, data: bytes) -> None:
        """Prepare a statement, unless there are many already."""
        if len(self.prepared_stmts) >= PREPARED_MOST:
            raise SqlError(
                codes.TOO_MANY_STATEMENTS,
                f"Can't create more than max_prepared_stmt_count statements (current value: {PREPARED_MOST})",
            )
        await super().handle_stmt_prepare(data)

    async def handle_stmt_send_long_data(self, data: bytes) -> None:
        """Refuse: parts of a value would pile up; there is no answer to this command, so the next one fails."""

    async def handle_change_user(self, data: bytes) -> None:
        """Refuse: who wants to be somebody else connects again."""
        raise SqlError(codes.UNKNOWN_COMMAND, "Unknown command")
