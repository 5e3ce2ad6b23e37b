"""How requests are compressed: what the platform has."""

from __future__ import annotations

import zlib
from typing import Callable

AUTO, NONE, GZIP, ZSTD = "auto", "none", "gzip", "zstd"
COMPRESSIONS = (AUTO, NONE, GZIP, ZSTD)
# Below this, compression costs more than it saves.
COMPRESS_FROM_BYTES = 1 << 10
# Levels: gzip's default is twice as slow for a twentieth less; zstd's default.
GZIP_LEVEL, ZSTD_LEVEL = 4, 3
# What makes zlib write the header of gzip: 16 above the largest window.
GZIP_WINDOW_BITS = 16 + zlib.MAX_WBITS

Compress = Callable[[bytes], bytes]


def resolved(compression: str, is_loopback: bool) -> str:
    """What `auto` means here."""
    if compression != AUTO:
        return compression
    if is_loopback:
        return NONE
    return ZSTD if zstd() is not None else GZIP


def gzip(data: bytes) -> bytes:
    """The data in the format of gzip."""
    packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, GZIP_WINDOW_BITS)
    return packer.compress(data) + packer.flush()


def zstd() -> Compress | None:
    """zstd of the standard library, from Python 3.14 on, or of the package `zstandard`; none without."""
    try:
        from compression import zstd as standard

        return lambda data: bytes(standard.compress(data, ZSTD_LEVEL))
    except ImportError:
        pass
    try:
        import zstandard
    except ImportError:
        return None
    return zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress


def compressor(compression: str) -> Compress | None:
    """The function that packs; none for `none`."""
    if compression == ZSTD:
        return zstd()
    return gzip if compression == GZIP else None
