"""The answer a response commits to, found the way a person reads it.

    extract("She makes 9*2=18.\\n#### 18\\n\\nQuestion: ...\\n#### 3")   -> Extraction("18", "hash")
    extract("So we get \\\\boxed{\\\\frac{1}{2}}.")                       -> Extraction("1/2", "boxed")
    extract("The answer is 5. Let me double check: 2+5 = 7")         -> Extraction("5", "answer_is")
    extract("```output\\n18.0\\n```")                                  -> Extraction("18.0", "output")
    extract("Therefore, Janet makes $18 every day.")                 -> Extraction("18", "therefore")
    extract("The answer is 7 or 8")                                  -> Extraction(None, "none")

The layers are tried in the order of `STRATEGIES`, except that a number named as the answer after the
last box goes before that box. The last number of the text is a fallback, and is counted as one.
`passages` first cuts off the model's thinking and a next question that it wrote for itself. An answer
taken back ("Wait, that is wrong") gives way to the one after it, and a calculation that the token limit
cut has none. Numbers come out as `numbers.Number.text`, everything else as `normalise_text`. Every search
is linear and looks at a limited number of places.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import Literal, get_args

from mathreason.evaluation.boxes import boxed_answer
from mathreason.evaluation.claims import chosen_option, final_result, is_unfinished, refuses, sentence_value
from mathreason.evaluation.formulas import closing_formula
from mathreason.evaluation.markers import (
    hash_answer,
    program_output,
    restated_answer,
    stated_answer,
    tagged_answer,
)
from mathreason.evaluation.markup import plain_characters
from mathreason.evaluation.passages import MAX_MARKERS, attempts, before_check, own_answer
from mathreason.evaluation.values import HEDGE, Found, Hedge

Strategy = Literal["tag", "hash", "boxed", "answer_is", "output", "therefore", "last_number", "none"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)

MAX_RESPONSE = 100_000
"""Characters of a response that are looked at; of a longer one, its first and its last half of these."""
TAIL = 4_000
"""Characters at the end of a response in which the two last layers look."""


@dataclass(frozen=True, slots=True)
class Extraction:
    """`answer` is the committed answer as normalised text, None where there is none or more than one."""

    answer: str | None
    strategy: Strategy


def extract(response: str) -> Extraction:
    """The answer that `response` commits to. Never raises, whatever the text."""
    text = own_answer(_without_calculations(_ends(plain_characters(_ends(response)))))
    if text.rstrip().endswith("[/asy]"):  # a drawing after the answer
        text = text.rpartition("[asy]")[0]
    for retracted, attempt in enumerate(reversed(attempts(text))):
        for strategy, layer in _EXPLICIT:
            if (found := layer(attempt)) and not (retracted and isinstance(found, Hedge)):
                return _extraction(found, strategy)
    ending = before_check(text[-TAIL:])
    if "\\end{" in ending:
        ending = _ROWS.sub("", _DISPLAY_END.sub(r"\\]", _DISPLAY_START.sub(r"\\[", ending)))
    for strategy, layer in _IMPLICIT:
        if found := layer(ending):
            return _extraction(found, strategy)
    return Extraction(None, "none")


def _ends(text: str) -> str:
    """`text`, or its first and its last half of `MAX_RESPONSE` characters; one character may become seven."""
    half = MAX_RESPONSE // 2
    return text if len(text) <= MAX_RESPONSE else f"{text[:half]}\n{text[-half:]}"


_DISPLAY_START = re.compile(r"\\begin\{(?:align|gather|equation)\*?\}")
_DISPLAY_END = re.compile(r"\\end\{(?:align|gather|equation)\*?\}")
_ROWS = re.compile(r"\\(?:begin|end)\{(?:aligned|gathered|split)\}|(?<!\\)&(?=\s?=)")
_CALCULATION = re.compile(r"<<[^<>\n]{0,200}>>(?=\s?[-$]?\.?\d)")  # GSM8K's calculator annotations
_ONLY_CALCULATION = re.compile(r"<<(?:[^<>\n]{0,200}=)?([^<>=\n]{0,60})>>")
_CUT_CALCULATION = re.compile(r"<<[^<>\n]{0,2000}\Z")  # where the token limit ended the response


def _without_calculations(text: str) -> str:
    """`text` without `<<9*2=18>>`, which stands before its result; where it stands alone, 18."""
    if "<<" not in text:
        return text
    return _CUT_CALCULATION.sub("", _ONLY_CALCULATION.sub(r"\1", _CALCULATION.sub("", text)))


_FLOAT = re.compile(r"-?\d{1,15}\.\d{11,17}")


def _extraction(found: str | Hedge, strategy: Strategy) -> Extraction:
    if isinstance(found, Hedge):
        return Extraction(None, "none")
    return Extraction(_without_float_noise(found) if _FLOAT.fullmatch(found) else found, strategy)


def _without_float_noise(number: str) -> str:
    """A decimal as a program prints it: 7.6 for 7.6000000000000005, twelve digits of 0.6666666666666666."""
    rounded = f"{float(number):.8f}".rstrip("0").rstrip(".")
    return rounded if len(rounded.partition(".")[2]) <= 4 else f"{Decimal(number):.12g}"


# -- layers: the conclusion, and the last number ---------------------------------------------------

_SENTENCES = re.compile(r"(?<=[.!?])\s+(?=[A-Z*\"(])")
_LIST_NUMBER = re.compile(
    r"[\s*#>_-]{0,8}(?:(?:step|part|case)\s\d{1,2}[.:)]|\d{1,2}[.)]\s+(?=[*_]{0,2}[A-Za-z]))", re.IGNORECASE
)
_CONCLUSION = re.compile(
    r"[\s*_>\d.)-]{0,10}(?:therefore|thus|hence|so|consequently|in (?:conclusion|total|all|summary)"
    r"|altogether|finally|overall)\b",
    re.IGNORECASE,
)
_REMARK = re.compile(r"[\s*_]{0,5}(?:note\b|\([A-Z])", re.IGNORECASE)
_DIGIT = re.compile(r"\d")


def _therefore(text: str) -> Found:
    """The value of a conclusion, when no sentence after it goes on reckoning."""
    for sentence in islice(_last_sentences(text), 4):
        if refuses(sentence):
            return HEDGE
        if _CONCLUSION.match(sentence):
            return sentence_value(sentence)
        if _DIGIT.search(sentence):
            return None
    return None


def _last_number(text: str) -> Found:
    """The value of the last sentence that holds a number; none where the token limit cut a calculation."""
    remark: Found = None
    for position, sentence in enumerate(islice(_last_sentences(text), MAX_MARKERS)):
        if position == 0 and _DIGIT.search(sentence) and is_unfinished(sentence):
            return final_result(sentence) or HEDGE
        if _DIGIT.search(sentence) and (found := sentence_value(sentence, prefer_last=True)):
            if not _REMARK.match(sentence):
                return found
            remark = remark or found
    return remark


def _last_sentences(text: str) -> Iterator[str]:
    for line in reversed(text.split("\n")):
        number = _LIST_NUMBER.match(line)
        sentences = _SENTENCES.split(line[number.end() :] if number else line)
        yield from (sentence for sentence in reversed(sentences) if sentence.strip())


_Layer = Callable[[str], Found]
_EXPLICIT: tuple[tuple[Strategy, _Layer], ...] = (
    ("tag", tagged_answer),
    ("hash", hash_answer),
    ("answer_is", restated_answer),
    ("boxed", boxed_answer),
    ("answer_is", stated_answer),
    ("output", program_output),
)
_IMPLICIT: tuple[tuple[Strategy, _Layer], ...] = (
    ("therefore", chosen_option),
    ("therefore", closing_formula),
    ("therefore", _therefore),
    ("last_number", _last_number),
)
