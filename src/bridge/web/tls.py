"""Certificates: loaded with sentences for what can be wrong, and changed under a running server."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bridge.errors import SettingsError

Fingerprint = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The PEM files of one server certificate, with its chain, and of its unencrypted private key."""

    cert_file: str
    key_file: str


class _KeyIsEncrypted(Exception):
    """OpenSSL asked for a pass phrase."""


def make_context(files: TlsFiles) -> ssl.SSLContext:
    """A server context for TLS 1.2 and above.

    Errors: SettingsError when a file cannot be read, is not PEM, is encrypted, or the two do not belong together.
    """
    for name, path in (("cert_file", files.cert_file), ("key_file", files.key_file)):
        try:
            with open(path, "rb") as file:
                file.read(1)
        except OSError as error:
            raise _wrong(
                name, f"cannot read {path!r}: {error.strerror}", "give a PEM file bridge may read"
            ) from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(files.cert_file, files.key_file, password=_refuse_password)
    except _KeyIsEncrypted as error:
        raise _wrong(
            "key_file", f"{files.key_file!r} is encrypted", "decrypt it: openssl pkey -in OLD.pem -out NEW.pem"
        ) from error
    except (ssl.SSLError, OSError) as error:
        if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
            text = f"{files.key_file!r} is not the key of {files.cert_file!r}"
            raise _wrong("key_file", text, "give the two files that were made together") from error
        text = f"{files.cert_file!r} and {files.key_file!r} are not a PEM certificate and a PEM private key"
        raise _wrong("cert_file", text, "give files that begin with -----BEGIN") from error
    return context


def _refuse_password() -> str:
    raise _KeyIsEncrypted


def _wrong(key: str, text: str, remedy: str) -> SettingsError:
    return SettingsError([f"server.tls.{key}: {text}; {remedy}"])


class TlsReloader:
    """A context whose certificate follows its files: new handshakes get the new pair, open connections live on.

    A new pair is loaded into a context of its own and put in place only when it is whole, so a half-written pair
    never reaches a client.
    """

    def __init__(
        self,
        files: TlsFiles,
        *,
        on_broken: Callable[[SettingsError], None],
        every_s: float = 10.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._files = files
        self._on_broken = on_broken
        self._every_s = every_s
        self._sleep = sleep
        self._seen = _fingerprint(files)
        self._inner = make_context(files)
        self.context = make_context(files)
        # Called in each handshake, with or without a server name.
        self.context.sni_callback = self._choose

    async def reload(self, files: TlsFiles | None = None) -> bool:
        """Loads the pair now, from other files where given; False when it is broken and the old one stays.

        Errors: none, what is wrong goes to `on_broken`.
        """
        wanted = files or self._files
        self._seen = await asyncio.to_thread(_fingerprint, wanted)
        try:
            self._inner = await asyncio.to_thread(make_context, wanted)
        except SettingsError as error:
            self._on_broken(error)
            return False
        self._files = wanted
        return True

    async def watch(self) -> None:
        """Reloads whenever one of the files has changed, until it is cancelled."""
        while True:
            await self._sleep(self._every_s)
            if await asyncio.to_thread(_fingerprint, self._files) != self._seen:
                await self.reload()

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _outer: ssl.SSLContext) -> None:
        connection.context = self._inner


def _fingerprint(files: TlsFiles) -> Fingerprint:
    return tuple(_stamp(path) for path in (files.cert_file, files.key_file))


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
