"""How numbers are written for people, the same in the terminal and in the report.

percent(0.6133)  "61.3 %"        points(0.583)  "+58.3"        p_value(1.34e-12)  "1.3e-12"
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def percent(value: float) -> str:
    """A proportion as a percentage with one decimal."""
    return f"{100 * value:.1f} %"


def points(value: float) -> str:
    """A difference of proportions in signed percentage points; a rounded zero carries no sign."""
    rounded = round(100 * value, 1)
    return "0.0" if rounded == 0 else f"{rounded:+.1f}".replace("-", "−")


def bounds(interval: Mapping[str, Any]) -> str:
    """The limits of an accuracy in percent: "[52.1, 63.9]"."""
    return f"[{100 * interval['low']:.1f}, {100 * interval['high']:.1f}]"


def point_bounds(interval: Mapping[str, Any]) -> str:
    """The limits of a difference in percentage points: "[−1.2, 5.3]"."""
    return f"[{points(interval['low'])}, {points(interval['high'])}]".replace("+", "")


def p_value(value: float) -> str:
    """A p-value: two digits from 0.001 up, a power of ten below."""
    if value == 0:
        return "<1e-300"
    if value >= 0.001:
        return f"{value:.2g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def p_relation(value: float) -> str:
    """A p-value to follow the letter p: "= 0.034", or "< 1e-300" below what a float holds."""
    return "< 1e-300" if value == 0 else f"= {p_value(value)}"


def count(value: int) -> str:
    """A whole number with thin groups of three: "1 319"."""
    return f"{value:,}".replace(",", "\u202f")
