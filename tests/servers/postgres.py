"""A real PostgreSQL in a folder of its own, on a free port of this machine."""

# ruff: noqa: S608  the SQL is made of names of the tests themselves

from __future__ import annotations

import atexit
import functools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

READY_S = 40.0
STOP_S = 20.0
USER = "bridge"
GUARDED, PASSWORD = "guarded", "s3cret-w0rd"
DATABASE = "postgres"
# Whoever has no password may come in, so that only one test needs one.
_HBA = f"""
host all {GUARDED} 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
local all all trust
"""
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_connections": "30",
    "shared_buffers": "16MB",
    "log_min_messages": "log",
}


def binaries() -> Path:
    """The folder of Debian's newest PostgreSQL, whose programs are not on the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if not found:
        pytest.fail("PostgreSQL is not installed: run tests/system_packages.sh, or apt-get install postgresql")
    return found[-1].parent


def _as_owner() -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    return {"user": "postgres", "group": "postgres", "extra_groups": ()}


@dataclass
class Postgres:
    """One server."""

    folder: Path
    port: int
    process: subprocess.Popen[str] | None = field(default=None, repr=False)

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self.process is not None
        return self.process.pid

    def url(self, user: str = USER, database: str = DATABASE) -> str:
        """How a source names it."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        command = [str(binaries() / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port)]
        settings = {**_SETTINGS, "unix_socket_directories": str(self.folder)}
        for key, value in settings.items():
            command += ["-c", f"{key}={value}"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=self.folder, **_as_owner()
        )
        ready, said = threading.Event(), []

        def listen(process: subprocess.Popen[str]) -> None:
            assert process.stderr is not None
            for line in process.stderr:
                said.append(line)
                if "ready to accept connections" in line:
                    ready.set()
            ready.set()

        threading.Thread(target=listen, args=(self.process,), daemon=True).start()
        assert ready.wait(READY_S), f"PostgreSQL does not start: {''.join(said)[-1000:]}"
        assert self.process.poll() is None, f"PostgreSQL ends at once: {''.join(said)[-1000:]}"

    def stop(self) -> None:
        """Stops the server by its pid; whoever is connected is thrown out."""
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGINT)
        self.process.wait(STOP_S)
        if self.process.stderr is not None:
            self.process.stderr.close()
        self.process = None

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        """A connection of the test's own, which may write."""
        return psycopg.connect(self.url(), autocommit=True, **options)

    def execute(self, *statements: str) -> None:
        """Runs statements one after the other."""
        with self.connect() as db:
            for statement in statements:
                db.execute(statement)

    def fill(self, table: str, columns: str, rows: Sequence[Sequence[Any]]) -> None:
        """Makes a table anew, with these rows."""
        with self.connect() as db:
            db.execute(f"DROP TABLE IF EXISTS {table}")
            db.execute(f"CREATE TABLE {table} ({columns})")
            if rows:
                marks = ", ".join(["%s"] * len(rows[0]))
                with db.cursor() as cursor:
                    cursor.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _made() -> Postgres:
    folder = Path(tempfile.mkdtemp(prefix="bridge-postgres-"))
    folder.chmod(0o755)
    if os.geteuid() == 0:
        owner = pwd.getpwnam("postgres")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
    server = Postgres(folder, _free_port())
    command = [str(binaries() / "initdb"), "-D", str(folder / "data"), "-U", USER, "-A", "trust", "-E", "UTF8"]
    command += ["--locale=C.UTF-8", "--no-sync", "--no-instructions"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, **_as_owner())
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "data" / "pg_hba.conf").write_text(_HBA)
    server.start()
    server.execute(f"CREATE ROLE {GUARDED} LOGIN PASSWORD '{PASSWORD}'")
    return server


def _thrown_away(server: Postgres) -> None:
    server.stop()
    shutil.rmtree(server.folder, ignore_errors=True)


@functools.cache
def running() -> Postgres:
    """The server that all tests of a session share; it is stopped when the session ends."""
    server = _made()
    atexit.register(_thrown_away, server)
    return server


@contextmanager
def own() -> Iterator[Postgres]:
    """A server of the test's own, which it may stop and start."""
    server = _made()
    try:
        yield server
    finally:
        _thrown_away(server)
