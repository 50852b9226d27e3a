"""The checksum of what lies in files: CRC-32, as in zlib, by whoever is fastest at it.

zlib-ng takes a fifth of zlib's time for it; a user's environment may lack it.
"""

try:
    from zlib_ng.zlib_ng import crc32
except ImportError:
    from zlib import crc32

__all__ = ("crc32",)
