"""Values of secrets, which show themselves nowhere by accident."""

from __future__ import annotations

import hmac
from typing import NoReturn


class Value:
    """The bytes of one value. Neither repr, str, format nor pickle shows them; `bytes` and `text()` do."""

    __slots__ = ("_bytes",)

    def __init__(self, data: bytes) -> None:
        self._bytes = bytes(data)

    @property
    def bytes(self) -> bytes:
        return self._bytes

    def text(self) -> str:
        """The value as text. One that is not UTF-8 is a ValueError, which does not show it."""
        try:
            return self._bytes.decode()
        except UnicodeDecodeError:
            pass
        raise ValueError("the value is not UTF-8; take its bytes")

    def __len__(self) -> int:
        return len(self._bytes)

    def __eq__(self, other: object) -> bool:
        """In a time that does not depend on where they differ."""
        return isinstance(other, Value) and hmac.compare_digest(self._bytes, other._bytes)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<value of {len(self._bytes)} bytes>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a value of a secret is not pickled")
