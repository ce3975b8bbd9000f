"""Certificates: told apart when wrong, and changed under a running server."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bridge.errors import SettingsError
from bridge.web.tls import TlsFiles, TlsReloader, make_context

HOST = "127.0.0.1"


def write_pair(folder: Path, name: str, *, files: TlsFiles | None = None, password: bytes | None = None) -> TlsFiles:
    """A self-signed certificate called `name` and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=36_500))
        .sign(key, hashes.SHA256())
    )
    files = files or TlsFiles(str(folder / f"{name}.pem"), str(folder / f"{name}.key"))
    Path(files.cert_file).write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    locked = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    Path(files.key_file).write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
    )
    return files


def client_context(**limits: ssl.TLSVersion) -> ssl.SSLContext:
    """A client that takes any certificate, to look at it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for name, value in limits.items():
        setattr(context, name, value)
    return context


def peer_name(writer: asyncio.StreamWriter) -> str:
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return str(x509.load_der_x509_certificate(der).subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


async def name_shown(port: int, *, server_name: str | None = None, **limits: ssl.TLSVersion) -> str:
    """The name on the certificate that a new connection is shown."""
    context = client_context(**limits)
    _, writer = await asyncio.open_connection(HOST, port, ssl=context, server_hostname=server_name or "")
    try:
        return peer_name(writer)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


@asynccontextmanager
async def echo_server(context: ssl.SSLContext) -> AsyncIterator[int]:
    """A TLS server that sends every line back; gives its port."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, HOST, 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


class Ticks:
    """A sleep that ends when the test says so."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[float] = asyncio.Queue()
        self.go: asyncio.Queue[None] = asyncio.Queue()

    async def sleep(self, seconds_s: float) -> None:
        self.asked.put_nowait(seconds_s)
        await self.go.get()

    async def tick(self) -> None:
        """Lets one round of the watcher pass."""
        self.go.put_nowait(None)
        await self.asked.get()


def missing_cert(folder: Path) -> TlsFiles:
    return TlsFiles(str(folder / "none.pem"), write_pair(folder, "a").key_file)


def missing_key(folder: Path) -> TlsFiles:
    return TlsFiles(write_pair(folder, "a").cert_file, str(folder / "none.key"))


def folder_as_key(folder: Path) -> TlsFiles:
    return TlsFiles(write_pair(folder, "a").cert_file, str(folder))


def mixed(folder: Path) -> TlsFiles:
    return TlsFiles(write_pair(folder, "a").cert_file, write_pair(folder, "b").key_file)


def encrypted(folder: Path) -> TlsFiles:
    return write_pair(folder, "a", password=b"secret")


def text_cert(folder: Path) -> TlsFiles:
    files = write_pair(folder, "a")
    Path(files.cert_file).write_text("not a certificate")
    return files


def empty_key(folder: Path) -> TlsFiles:
    files = write_pair(folder, "a")
    Path(files.key_file).write_text("")
    return files


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (missing_cert, ["server.tls.cert_file", "none.pem", "No such file"]),
        (missing_key, ["server.tls.key_file", "none.key", "No such file"]),
        (folder_as_key, ["server.tls.key_file", "cannot read"]),
        (mixed, ["server.tls.key_file", "is not the key of", "made together"]),
        (encrypted, ["server.tls.key_file", "is encrypted", "openssl pkey"]),
        (text_cert, ["server.tls.cert_file", "not a PEM certificate", "-----BEGIN"]),
        (empty_key, ["server.tls.cert_file", "PEM private key", "-----BEGIN"]),
    ],
)
def test_a_wrong_pair_is_refused_with_the_key_and_a_remedy(
    make: Callable[[Path], TlsFiles], says: list[str], tmp_path: Path
) -> None:
    with pytest.raises(SettingsError) as caught:
        make_context(make(tmp_path))
    assert all(part in str(caught.value) for part in says), str(caught.value)


def test_tls_below_1_2_is_not_spoken(tmp_path: Path) -> None:
    assert make_context(write_pair(tmp_path, "a")).minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("server_name", [None, "bridge.example"])
async def test_new_handshakes_get_the_new_certificate_and_open_connections_live_on(
    version: ssl.TLSVersion, server_name: str | None, tmp_path: Path
) -> None:
    files = write_pair(tmp_path, "old")
    broken: list[SettingsError] = []
    reloader = TlsReloader(files, on_broken=broken.append)
    async with echo_server(reloader.context) as port:
        reader, writer = await asyncio.open_connection(HOST, port, ssl=client_context())
        write_pair(tmp_path, "new", files=files)
        limits = {"minimum_version": version, "maximum_version": version}
        assert await name_shown(port, server_name=server_name, **limits) == "old"
        assert await reloader.reload()
        assert await name_shown(port, server_name=server_name, **limits) == "new"
        writer.write(b"still here\n")
        assert await reader.readline() == b"still here\n"
        assert peer_name(writer) == "old"
        writer.close()
        await writer.wait_closed()
    assert not broken


@pytest.mark.parametrize("make", [mixed, encrypted, text_cert, missing_key])
async def test_a_broken_new_pair_is_reported_and_the_old_one_stays(
    make: Callable[[Path], TlsFiles], tmp_path: Path
) -> None:
    files = write_pair(tmp_path, "old")
    broken: list[SettingsError] = []
    reloader = TlsReloader(files, on_broken=broken.append)
    async with echo_server(reloader.context) as port:
        bad = make(tmp_path)
        assert not await reloader.reload(bad)
        assert await name_shown(port) == "old"
        assert [error.code for error in broken] == ["settings"]
        assert await reloader.reload()  # the first pair is still the one that is followed


async def test_other_files_can_take_the_place_of_the_first(tmp_path: Path) -> None:
    reloader = TlsReloader(write_pair(tmp_path, "old"), on_broken=lambda error: None)
    async with echo_server(reloader.context) as port:
        assert await reloader.reload(write_pair(tmp_path, "new"))
        assert await name_shown(port) == "new"


@asynccontextmanager
async def running(work: Awaitable[None]) -> AsyncIterator[None]:
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_changed_file_is_noticed_and_a_broken_one_is_reported_once(tmp_path: Path) -> None:
    files = write_pair(tmp_path, "old")
    broken: list[SettingsError] = []
    ticks = Ticks()
    reloader = TlsReloader(files, on_broken=broken.append, every_s=7.0, sleep=ticks.sleep)
    async with echo_server(reloader.context) as port, running(reloader.watch()):
        assert await ticks.asked.get() == 7.0
        await ticks.tick()
        assert await name_shown(port) == "old"
        Path(files.key_file).unlink()
        await ticks.tick()
        await ticks.tick()
        assert len(broken) == 1
        assert await name_shown(port) == "old"
        write_pair(tmp_path, "new", files=files)
        await ticks.tick()
        assert await name_shown(port) == "new"
    assert len(broken) == 1


def test_a_server_does_not_start_with_a_broken_pair(tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        TlsReloader(mixed(tmp_path), on_broken=lambda error: None)
