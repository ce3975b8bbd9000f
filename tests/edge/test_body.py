from __future__ import annotations

import gzip
import zlib

import pytest

from bridge.edge.body import STEP_BYTES, Unpacker
from bridge.errors import UpstreamUnavailable


@pytest.mark.parametrize("extra_bytes", range(20, 60))
def test_a_body_is_whole_wherever_a_step_ends(extra_bytes):
    """zlib may hold output back although it has taken all input in; that is no broken stream."""
    plain = bytes(STEP_BYTES + extra_bytes)
    unpacker = Unpacker("deflate", "GET x")
    assert b"".join(unpacker.feed(zlib.compress(plain, wbits=-15))) == plain
    unpacker.finish()


def test_a_body_is_whole_wherever_the_network_cuts_it():
    plain = b"hello " * 100
    packed = gzip.compress(plain) + gzip.compress(b"", mtime=0) + gzip.compress(plain)
    unpacker = Unpacker("gzip", "GET x")
    assert b"".join(part for byte in packed for part in unpacker.feed(bytes([byte]))) == plain * 2
    unpacker.finish()


def test_no_step_gives_more_than_its_bound():
    unpacker = Unpacker("gzip", "GET x")
    sizes_bytes = [len(part) for part in unpacker.feed(gzip.compress(bytes(10 * STEP_BYTES + 5)))]
    assert sum(sizes_bytes) == 10 * STEP_BYTES + 5
    assert max(sizes_bytes) == STEP_BYTES


def test_a_stream_cut_anywhere_is_noticed():
    packed = gzip.compress(b"hello")
    for length in range(1, len(packed)):
        unpacker = Unpacker("gzip", "GET x")
        list(unpacker.feed(packed[:length]))
        with pytest.raises(UpstreamUnavailable, match="broke off"):
            unpacker.finish()
