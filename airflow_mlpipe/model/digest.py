"""How identity is written down: canonical JSON and tagged BLAKE3 digests.

A digest is the text ``b3:`` followed by 64 hexadecimal characters. Everything that is compared by
digest passes through this file, so that two machines that disagree can only disagree here.
"""

from __future__ import annotations

import json
from typing import Any, TypeAlias

from blake3 import blake3

Digest: TypeAlias = str
"""``b3:`` and 64 lower-case hexadecimal characters."""

JsonValue: TypeAlias = Any
"""What JSON can say: None, bool, int, float, str, and lists and string-keyed mappings of these."""

PREFIX = "b3:"


def canonical_json(value: JsonValue) -> bytes:
    """Encode `value` so that equal values give equal bytes on every machine.

    Keys are sorted, text is UTF-8 without escapes, and the types stay apart: ``1``, ``1.0``, ``true``
    and ``"1"`` give four different encodings.

    Raises:
        ValueError: for NaN and infinities, which JSON cannot say.
        TypeError: for a type that JSON does not have.
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # Lone surrogates stand for the bytes of file names that are not UTF-8 (PEP 383).
    return text.encode("utf-8", "surrogateescape")


def digest_bytes(data: bytes) -> Digest:
    """Return the digest of `data` itself, untagged: the identity of a file's content."""
    return PREFIX + blake3(data).hexdigest()


def digest_json(tag: str, value: JsonValue) -> Digest:
    """Return the digest of `value` as a thing of kind `tag`.

    The tag keeps kinds apart: a file tree and a step that happen to encode alike never collide.
    """
    return PREFIX + blake3(tag.encode() + b"\0" + canonical_json(value)).hexdigest()


def short(digest: Digest) -> str:
    """Return the form shown to people: ``b3:`` and the first 12 characters."""
    return digest[: len(PREFIX) + 12]


def hex_part(digest: Digest) -> str:
    """Return the 64 characters after the prefix: the form used in file names."""
    return digest.removeprefix(PREFIX)
