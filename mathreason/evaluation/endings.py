"""Where a response ends, and its text: end-of-sequence tokens, stop texts, the token limit.

    endings = Endings(tokenizer, model.generation_config.eos_token_id, Sampling(256, stop=("Question:",)))
    growing = [2, 17, 88]                       # token ids generated so far
    if response := endings.response(growing):   # None while it goes on
        response.text, response.finish_reason

A stop text is looked for only when the newest token may complete one, so that most tokens cost nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mathreason.evaluation.engine import Response, Sampling, cut_at_stop

_UNKNOWN = "\ufffd"


class Endings:
    """The endings of one tokenizer's responses."""

    def __init__(self, tokenizer: Any, eos: int | Sequence[int] | None, sampling: Sampling) -> None:
        self._tokenizer = tokenizer
        self._sampling = sampling
        listed = [eos] if isinstance(eos, int) or eos is None else list(eos)
        self.eos = frozenset(int(i) for i in (*listed, tokenizer.eos_token_id) if i is not None)
        self._last_characters = {text[-1] for text in sampling.stop}
        # A token carries at least one byte of text, so a stop text just completed is within these tokens.
        self._window = max((len(text.encode()) for text in sampling.stop), default=0) + 1
        self._may_complete: dict[int, bool] = {}

    def response(self, tokens: Sequence[int]) -> Response | None:
        """The finished response whose newest token is the last of `tokens`, or None."""
        newest = tokens[-1]
        if newest in self.eos:
            return Response(self.text(tokens[:-1]), len(tokens), "stop")
        if self._completes_stop(newest) and self._has_stop(self.text(tokens[-self._window :])):
            cut = cut_at_stop(self.text(tokens), self._sampling.stop)
            if cut is not None:
                return Response(cut, len(tokens), "stop")
        if len(tokens) >= self._sampling.max_new_tokens:
            return Response(self.text(tokens), len(tokens), "length")
        return None

    def text(self, tokens: Sequence[int]) -> str:
        decoded: str = self._tokenizer.decode(
            list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return decoded

    def _has_stop(self, text: str) -> bool:
        return any(stop in text for stop in self._sampling.stop)

    def _completes_stop(self, token: int) -> bool:
        """Whether the token's text holds the last character of a stop text, or only part of a character."""
        known = self._may_complete.get(token)
        if known is None:
            text = self.text([token])
            known = _UNKNOWN in text or any(character in text for character in self._last_characters)
            self._may_complete[token] = known
        return known
