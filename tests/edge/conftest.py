"""Far servers on free loopback ports that answer with exactly the bytes a test asks for."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bridge.edge.upstream import UpstreamPool

Handler = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


class Far:
    """One far server: it keeps what it was sent, and knows when the caller hung up on it."""

    def __init__(self, handler: Handler, tls: ssl.SSLContext | None) -> None:
        self.requests: list[bytes] = []
        self.hung_up = asyncio.Event()
        self.asked = asyncio.Event()
        self.connections = 0
        self._handler = handler
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._spawn(self._accept())

    @property
    def lines(self) -> list[str]:
        """The request lines."""
        return [request.split(b"\r\n", 1)[0].decode() for request in self.requests]

    def header(self, name: str, index: int = -1) -> str | None:
        """The value of one header of one request."""
        found = re.search(rf"(?im)^{name}: (.*?)\r$", self.requests[index].decode("latin-1"))
        return found[1] if found else None

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._socket.close()

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(self._socket)
            self.connections += 1
            self._spawn(self._talk(sock))

    async def _talk(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        readable = loop.create_future()
        loop.add_reader(sock, lambda: readable.done() or readable.set_result(None))
        try:
            await readable
        finally:
            loop.remove_reader(sock)
        # Plain and TLS callers share one port, as behind some load balancers; the first byte tells them apart.
        hello = self._tls is not None and sock.recv(1, socket.MSG_PEEK) == b"\x16"
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, sock, ssl=self._tls if hello else None
            )
        except (OSError, ssl.SSLError):
            sock.close()
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            await self._answer_all(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.hung_up.set()
        finally:
            transport.abort()

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = b""
        while True:
            request = first + await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", request)
            request += await reader.readexactly(int(length[1])) if length else b""
            self.requests.append(request)
            self.asked.set()
            answering = asyncio.ensure_future(self._handler(request, writer))
            watching = asyncio.ensure_future(reader.read(1))
            try:
                await asyncio.wait({answering, watching}, return_when=asyncio.FIRST_COMPLETED)
                if not answering.done() and watching.result() == b"":
                    self.hung_up.set()
                    return
                await answering
                if writer.is_closing():
                    return
                first = await watching
                if first == b"":
                    self.hung_up.set()
                    return
            finally:
                answering.cancel()
                watching.cancel()
                await asyncio.gather(answering, watching, return_exceptions=True)


Serve = Callable[..., Far]


@pytest.fixture
async def far() -> AsyncIterator[Serve]:
    """Starts a far server: `far(handler)`, or `far(b"raw answer")`."""
    started: list[Far] = []

    def serve(answer: Handler | bytes, *, tls: ssl.SSLContext | None = None) -> Far:
        async def raw(_: bytes, writer: asyncio.StreamWriter) -> None:
            assert isinstance(answer, bytes)
            writer.write(answer)

        server = Far(raw if isinstance(answer, bytes) else answer, tls)
        started.append(server)
        return server

    yield serve
    for server in started:
        await server.close()


@pytest.fixture
async def pool() -> AsyncIterator[UpstreamPool]:
    async with UpstreamPool() as made:
        yield made


class ManualClock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.at = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
        self.elapsed_s = 1_000.0

    def now(self) -> dt.datetime:
        return self.at

    def monotonic_s(self) -> float:
        return self.elapsed_s

    def advance(self, seconds: float) -> None:
        self.at += dt.timedelta(seconds=seconds)
        self.elapsed_s += seconds


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's TLS context for 127.0.0.1, and a client's that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "far")])
    today = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - dt.timedelta(days=1))
        .not_valid_after(today + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    pem_file = tmp_path / "far.pem"
    pem_file.write_bytes(
        pem
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem_file)
    return server, ssl.create_default_context(cadata=pem.decode())
