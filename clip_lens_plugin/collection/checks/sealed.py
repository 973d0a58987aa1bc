"""JSON that holds the SHA-256 of its own content, so that a changed one is known by itself."""

from __future__ import annotations

import hashlib
import json
from typing import Any

SEAL = "sha256"


def sealed(content: dict[str, Any]) -> bytes:
    """The content and its digest as JSON; equal contents give equal bytes."""
    return json.dumps({**content, SEAL: _digest(content)}, indent=1).encode()


def unsealed(found: bytes) -> dict[str, Any]:
    """The content of what :func:`sealed` gave.

    Raises:
        ValueError: if a byte of it is another.
    """
    try:
        content = json.loads(found)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is no JSON ({type(error).__name__})") from error
    if not isinstance(content, dict) or SEAL not in content:
        raise ValueError(f"it holds no {SEAL} of its content")
    del content[SEAL]
    if sealed(content) != found:
        raise ValueError(f"its content is not that of its {SEAL}")
    return content


def sha256(content: bytes) -> str:
    """As 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def _digest(content: dict[str, Any]) -> str:
    return sha256(json.dumps(content, separators=(",", ":")).encode())
