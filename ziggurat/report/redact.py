"""A spec as YAML without what may be secret: addresses of alerts, and passwords inside other addresses."""

from __future__ import annotations

import re
from typing import Any

import yaml

HIDDEN = "(hidden)"
SECRET = re.compile(r"(passw|secret|token|credential|api_?key|(^|_)urls?$|webhook)", re.IGNORECASE)
LOGIN = re.compile(r"(?<=://)[^/@\s]+@")


def redacted(plain: dict[str, Any]) -> str:
    """The plain values of a spec as YAML, without its secrets."""
    return yaml.safe_dump(_clean(plain), sort_keys=False, allow_unicode=True, width=100)


def without_login(text: str) -> str:
    """The text with names and passwords inside addresses replaced."""
    return LOGIN.sub(f"{HIDDEN}@", text)


def _clean(value: Any, key: str = "") -> Any:  # noqa: ANN401 - any plain value
    if isinstance(value, dict):
        return {k: _clean(v, str(k)) for k, v in value.items()}
    if isinstance(value, list):
        return [_clean(v, key) for v in value]
    if isinstance(value, str) and value:
        return HIDDEN if SECRET.search(key) else without_login(value)
    return value
