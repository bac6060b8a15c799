from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mathreason.analysis.text import visible, visible_all


@pytest.mark.parametrize(
    "code", [0x0, 0x8, 0xD, 0x1B, 0x85, 0xAD, 0x200F, 0x202E, 0x2066, 0xD800, 0xFEFF, 0xE0041]
)
def test_characters_that_hide_or_reorder_are_shown_by_their_code(code: int) -> None:
    assert visible(f"a{chr(code)}b") == f"a⟨U+{code:04X}⟩b"


def test_plain_text_stays_as_it_is() -> None:
    text = "Weng earns $12 × 50/60 = $10.\n\tΣ, 数学, déjà <b>&amp;"
    assert visible(text) == text
    assert visible("one\r\ntwo") == "one\ntwo"


@given(st.text(alphabet=st.characters(codec=None)))
def test_any_text_can_be_written_as_utf_8(text: str) -> None:
    shown = visible(text)
    assert "\x00" not in shown.encode("utf-8").decode("utf-8")
    assert visible(shown) == shown


def test_every_string_of_a_value_is_made_visible() -> None:
    value = {"a\x00": ["b\u202e", {"c": "\ud800"}], "n": 3, "none": None, "yes": True}
    assert visible_all(value) == {
        "a⟨U+0000⟩": ["b⟨U+202E⟩", {"c": "⟨U+D800⟩"}],
        "n": 3,
        "none": None,
        "yes": True,
    }
