"""Model output made safe to look at: every character that hides, reorders or ends text is shown by its code.

    visible("abc\\u202egpj.exe\\x00")    "abc⟨U+202E⟩gpj.exe⟨U+0000⟩"

Escaping for HTML comes after this and is the template's work.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

# Controls except tab and line feed, bidirectional marks and overrides, zero-width and invisible characters,
# separators that break lines, lone surrogates (no UTF-8), non-characters, and tag characters.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ud800-\udfff\ufdd0-\ufdef\ufeff\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """`text` with each hidden character written as ⟨U+…⟩; CR LF becomes a plain line break."""
    return _HIDDEN.sub(lambda found: f"⟨U+{ord(found.group()):04X}⟩", text.replace("\r\n", "\n"))


def visible_all(value: Any) -> Any:
    """A JSON value with `visible` applied to every string in it, keys included."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Mapping):
        return {visible(str(key)): visible_all(each) for key, each in value.items()}
    if isinstance(value, Sequence):
        return [visible_all(each) for each in value]
    return value
