"""The answer a response commits to, found the way a person reads it.

    extract("She makes 9*2=18.\\n#### 18\\n\\nQuestion: ...\\n#### 3")   -> Extraction("18", "hash")
    extract("So we get \\\\boxed{\\\\frac{1}{2}}.")                       -> Extraction("1/2", "boxed")
    extract("The answer is 5. Let me double check: 2+5 = 7")         -> Extraction("5", "answer_is")
    extract("Therefore, Janet makes $18 every day.")                 -> Extraction("18", "therefore")
    extract("The answer is 7 or 8")                                  -> Extraction(None, "none")

The layers are tried in that order; the last number of the text is a fallback, and is counted as one. A
next question that the model wrote for itself is cut off first. An answer taken back ("Wait, that is
wrong") gives way to the one after it. Numbers come out as `numbers.Number.text`, everything else as
`normalise_text`. Every search is linear and looks at a limited number of places.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal, get_args

from mathreason.evaluation.markup import plain_characters
from mathreason.evaluation.normalisation import ARITHMETIC, normalise_answer, normalise_text
from mathreason.evaluation.numbers import MAX_LENGTH, number_at, read_number
from mathreason.evaluation.values import (
    HEDGE,
    MAX_SPAN,
    Found,
    Hedge,
    first_sentence,
    formula_value,
    leading_value,
    sentence_value,
)

Strategy = Literal["hash", "boxed", "answer_is", "therefore", "last_number", "none"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)

MAX_RESPONSE = 100_000
"""Characters of a response that are looked at; of a longer one, its first and its last half of these."""
MAX_MARKERS = 50
"""Markers of one kind that are looked at in one response."""
MAX_DEPTH = 50
"""Nested braces inside one `\\boxed{}`."""
TAIL = 4_000
"""Characters at the end of a response in which the two last layers look."""


@dataclass(frozen=True, slots=True)
class Extraction:
    """`answer` is the committed answer as normalised text, None where there is none or more than one."""

    answer: str | None
    strategy: Strategy


def extract(response: str) -> Extraction:
    """The answer that `response` commits to. Never raises, whatever the text."""
    if len(response) > MAX_RESPONSE:
        response = response[: MAX_RESPONSE // 2] + "\n" + response[-MAX_RESPONSE // 2 :]
    text = _own_answer(_CALCULATION.sub("", plain_characters(response)))
    attempts = _RETRACTION.split(text)[-MAX_MARKERS:]
    for attempt in reversed(attempts):
        for strategy, layer in _EXPLICIT:
            if found := layer(attempt):
                return _extraction(found, strategy)
    ending = _before_check(text[-TAIL:])
    for strategy, layer in _IMPLICIT:
        if found := layer(ending):
            return _extraction(found, strategy)
    return Extraction(None, "none")


def _extraction(found: str | Hedge, strategy: Strategy) -> Extraction:
    return Extraction(None, "none") if isinstance(found, Hedge) else Extraction(found, strategy)


# -- which part of the response is the answer to the question --------------------------------------

_CALCULATION = re.compile(r"<<[^<>\n]{0,200}>>")  # GSM8K's calculator annotations
_TURN = re.compile(r"<\|[a-z_]{2,20}\|>|</?s>|<(?:end_of_turn|start_of_turn|eos)>|\[/?INST\]")
_HEADER = re.compile(
    r"^[ \t]{0,8}[#*]{0,6}[ \t]?(?:(?:next|new)[ \t])?(?:question|problem|exercise|q|human|user|instruction)"
    r"(?P<numbered>[ \t]?#?\d{1,4})?\*{0,2}[ \t]?[:.]",
    re.MULTILINE | re.IGNORECASE,
)
_COMMITS = re.compile(r"####|boxed|answer|therefore", re.IGNORECASE)
_SAYS_SOMETHING = re.compile(r"\d|" + _COMMITS.pattern, re.IGNORECASE)
_RETRACTION = re.compile(
    r"(?:^|(?<=[.!?\n])|(?<=[.!?]\s))\s?(?:(?:hmm|oh|but|no)[,.]?\s)?"
    r"(?:wait[,.!:-]|correction:|actually, (?:no|that|I)|sorry, |I made an? (?:mistake|error)"
    r"|that(?:'s| is| was) (?:wrong|incorrect|not right))",
    re.IGNORECASE,
)
_CHECK = re.compile(
    r"(?:^|(?<=[.!?]\s)|(?<=\n))[ \t*#]{0,6}(?:(?:now,?\s)?(?:let me|let's|let us|we can|to)\s)?"
    r"(?:(?:double[- ]?)?check(?:ing)?|verify(?:ing)?|verification|proof)\b",
    re.IGNORECASE,
)


def _own_answer(text: str) -> str:
    """`text` up to the next turn or the next question.

    A question restated at the start stays, and so do the parts "Question 1:", "Question 2:" of a
    solution that has not yet named an answer.
    """
    for turn in islice(_TURN.finditer(text), 3):
        if _SAYS_SOMETHING.search(text, 0, turn.start()):
            text = text[: turn.start()]
            break
    for header in islice(_HEADER.finditer(text), MAX_MARKERS):
        said = _COMMITS if header["numbered"] else _SAYS_SOMETHING
        if said.search(text, 0, header.start()):
            return text[: header.start()]
    return text


def _before_check(text: str) -> str:
    """`text` without the verification after its result."""
    match = _CHECK.search(text)
    return text[: match.start()] if match and re.search(r"\d", text[: match.start()]) else text


# -- layer: #### -----------------------------------------------------------------------------------

_HASH = re.compile(r"(?<!#)#{4,6}(?!#)[ \t*]{0,8}(?:\n[ \t]{0,8})?([^\n]{0,300})")
_NUMBERED_HEADING = re.compile(r"\**\d{1,2}[.)]\s+\**[A-Za-z]")


def _hash(text: str) -> Found:
    """The first `####` with a value; `#### Step 2` and `#### 1. Count` are Markdown headings."""
    for match in islice(_HASH.finditer(text), MAX_MARKERS):
        line = match[1]
        is_last = not text[match.end() : match.end() + MAX_SPAN].strip()
        if _NUMBERED_HEADING.match(line) and not is_last:
            continue
        found = leading_value(first_sentence(line))
        if found is None and "answer" in line.lower():
            found = _answer_is(line)
        if found is None and is_last and line.strip():
            found = sentence_value(line) if _WORDED.match(line) else _short_text(line)
        if found is not None:
            return found
    return None


_WORDED = re.compile(r"(?!.*(?:\w\(|__))[^\d]{0,100}[A-Za-z]{2,}[: ].*\d")


def _short_text(line: str) -> str | None:
    """A line that is an answer in itself: one to four words, or mathematics."""
    if len(line.split()) > 4 and "\\" not in line and "$" not in line:
        return None
    return normalise_answer(line) or None


# -- layer: \boxed{} -------------------------------------------------------------------------------

_BOX = re.compile(r"\\f?box(?:ed)?(?![A-Za-z])[ \t]?(?:(\{)|(\d))")
_BRACE = re.compile(r"\\[{}]|[{}]")
_FINAL = re.compile(r"final answer[^.\n]{0,40}$", re.IGNORECASE)


def _boxed(text: str) -> Found:
    """The box, if all boxes agree; of several, one that "the final answer" introduces at the end."""
    if "box" not in text:
        return None
    boxes = deque(_BOX.finditer(text), maxlen=MAX_MARKERS)
    answers = [(match, normalise_answer(content)) for match in boxes if (content := _content(text, match))]
    answers = [(match, answer) for match, answer in answers if answer and "\\phantom" not in answer]
    if not answers:
        return None
    last, answer = answers[-1]
    introduced = _FINAL.search(text, max(0, last.start() - MAX_SPAN), last.start())
    if introduced or len({_value_key(other) for _, other in answers}) == 1:
        return answer
    return HEDGE


def _value_key(answer: str) -> object:
    number = read_number(answer)
    return number.value if number else answer


def _content(text: str, box: re.Match[str]) -> str | None:
    """What is between the braces of `box`; None when they do not close within the limits."""
    if box[2]:
        return box[2]
    depth = 1
    for brace in _BRACE.finditer(text, box.end(), box.end() + MAX_LENGTH):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return text[box.end() : brace.start()]
        if depth > MAX_DEPTH:
            return None
    return None


# -- layer: "the answer is" ------------------------------------------------------------------------

_PHRASE = re.compile(
    r"(?:\b(?P<final>final)[ \t]+)?\banswer\b[\"'*_)]{0,3}(?:[ \t](?:to|for)(?:[ \t][\w']{1,20}){1,6}?)?"
    r"[ \t]{0,3}(?:"
    r"(?P<says>(?:is|was|equals|(?:would|will|should|must)[ \t]be|comes[ \t]to)\b(?![ \t]not\b)|=)"
    r"|(?P<label>:|\*{0,2}[ \t]?\n))"
    r"|^[ \t*#]{0,8}(?P<short>ans[.:]|(?-i:A):)(?=[ \t*]*\S)",
    re.IGNORECASE | re.MULTILINE,
)
_LEAD_IN = re.compile(r"(?:[\s:*_=>]|\\\[|\\\(|\$\$|(?<=\n)-\s){0,20}")
_CLAUSE = re.compile(r"(?:that|he|she|it|they|there|we|you|I|[A-Z][a-z]+)\s", re.ASCII)
_PLAIN_END = re.compile(r"(?:\s(?:in|for|after|every|per)\s\d{1,20}|[^\d+*/=^]){0,60}$")


def _answer_is(text: str) -> Found:
    """The first "final answer", or else the first "answer", that is followed by a value."""
    matches = list(islice(_PHRASE.finditer(text), MAX_MARKERS))
    for match in sorted(matches, key=lambda match: match["final"] is None):
        start = _LEAD_IN.match(text, match.end())
        begin = start.end() if start else match.end()
        line = text[begin : begin + MAX_SPAN].partition("\n")[0]
        is_last = not text[begin + len(line) : begin + len(line) + MAX_SPAN].strip(" \n\t$\\])*")
        found = _stated(line, is_last) if match["says"] else _labelled(line, is_last)
        if found is not None:
            return found
    return None


def _stated(line: str, is_last: bool) -> Found:
    """The value after "the answer is"."""
    sentence = first_sentence(line)
    found = leading_value(sentence)
    if found is None and _CLAUSE.match(sentence):
        found = sentence_value(line)
    if found is None and (sentence.startswith(("(", "[")) or "$" in line or "\\" in line):
        found = formula_value(line)
    if found is None and is_last and ARITHMETIC.match(sentence):
        found = normalise_answer(sentence)
    if found is None and is_last and re.fullmatch(r"[\"'(]?[A-Za-z]+[\"').!]*", line.strip(" *")):
        found = normalise_text(line)
    return found or None


def _labelled(line: str, is_last: bool) -> Found:
    """The value after "Answer:", where a whole solution may also begin: then it commits to nothing."""
    sentence = first_sentence(line)
    found = leading_value(sentence)
    if isinstance(found, Hedge):
        return found
    if found is not None:
        number = number_at(sentence, 0)
        return found if is_last or (number and _PLAIN_END.match(sentence, number[1])) else None
    if not is_last:
        return None
    if _CLAUSE.match(sentence) and re.search(r"\d", sentence):
        return sentence_value(line)
    return _short_text(line)


# -- layers: the conclusion, and the last number ---------------------------------------------------

_SENTENCES = re.compile(r"\n+|(?<=[.!?])\s+(?=[A-Z*\"(])")
_CONCLUSION = re.compile(
    r"[\s*_>\d.)-]{0,10}(?:therefore|thus|hence|so|consequently|in (?:conclusion|total|all|summary)"
    r"|altogether|finally|overall)\b",
    re.IGNORECASE,
)


def _therefore(text: str) -> Found:
    """The value of a conclusion, when no sentence after it goes on reckoning."""
    for sentence in islice(_last_sentences(text), 4):
        if _CONCLUSION.match(sentence):
            return sentence_value(sentence)
        if re.search(r"\d", sentence):
            return None
    return None


def _last_number(text: str) -> Found:
    """The value of the last sentence that holds a number."""
    for sentence in islice(_last_sentences(text), MAX_MARKERS):
        if re.search(r"\d", sentence) and (found := sentence_value(sentence, prefer_last=True)):
            return found
    return None


def _last_sentences(text: str) -> Iterator[str]:
    return (sentence for sentence in reversed(_SENTENCES.split(text)) if sentence.strip())


_Layer = Callable[[str], Found]
_EXPLICIT: tuple[tuple[Strategy, _Layer], ...] = (
    ("hash", _hash),
    ("boxed", _boxed),
    ("answer_is", _answer_is),
)
_IMPLICIT: tuple[tuple[Strategy, _Layer], ...] = (("therefore", _therefore), ("last_number", _last_number))
