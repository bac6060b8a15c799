"""The value that a marker introduces: `####`, a tag or field, "the answer is", the output of a program.

    hash_answer("9*2=18\\n#### 18")                     -> "18"
    tagged_answer("<answer>18</answer>")               -> "18"
    stated_answer("The answer, in dollars, is 18.")    -> "18"
    program_output("```output\\n18.0\\n```")            -> "18.0"

Each takes the part of a response that answers the question (see `passages`) and gives a `values.Found`.
"""

from __future__ import annotations

import re
from collections import deque
from itertools import islice

from mathreason.evaluation.boxes import boxed_answer
from mathreason.evaluation.claims import last_number, sentence_value
from mathreason.evaluation.normalisation import ARITHMETIC, normalise_answer, normalise_text
from mathreason.evaluation.numbers import MAX_LENGTH, number_at, read_number
from mathreason.evaluation.passages import MAX_MARKERS, has_any
from mathreason.evaluation.values import (
    HEDGE,
    MAX_SPAN,
    REFUSAL,
    Found,
    Hedge,
    first_sentence,
    formula_value,
    leading_value,
)

_DIGIT = re.compile(r"\d")

# -- #### ------------------------------------------------------------------------------------------

_HASH = re.compile(r"(?<!#)#{4,6}(?!#)[ \t*]{0,8}(?:\n[ \t]{0,8}){0,2}([^\n]{0,300})")
_HEADING = re.compile(
    r"\**(?:\d{1,2}[.)]\s+\**[A-Za-z]|(?:step|part|case|phase|stage|day|week)\s\d)", re.IGNORECASE
)


def hash_answer(text: str) -> Found:
    """The first `####` with a value; `#### Step 2` and `#### 1. Count` are Markdown headings."""
    if "####" not in text:
        return None
    for match in islice(_HASH.finditer(text), MAX_MARKERS):
        line = match[1]
        is_last = not text[match.end() : match.end() + MAX_SPAN].strip()
        if _HEADING.match(line) and not is_last:
            continue
        found = leading_value(first_sentence(line))
        if found is None and "answer" in line.lower():
            found = stated_answer(line)
        if found is None and is_last and line.strip():
            found = sentence_value(line) if _WORDED.match(line) else _short_text(line)
        if found is not None:
            return found
    return None


_WORDED = re.compile(r"(?!.*(?:\w\(|__))[^\d]{0,100}[A-Za-z]{2,}[: ].*\d")


def _short_text(line: str) -> Found:
    """A line that is an answer in itself: one to four words, or mathematics."""
    if REFUSAL.match(line):
        return HEDGE
    if len(line.split()) > 4 and "\\" not in line and "$" not in line:
        return None
    return normalise_answer(line) or None


# -- tags and fields -------------------------------------------------------------------------------

_CLOSING = re.compile(r"</(final_?answer|answer|ans)>|\[/(ANSWER)\]", re.IGNORECASE)
_FIELD = re.compile(
    r"[\"'](?:final[_ ]?)?answer[\"']\s{0,3}:\s{0,3}"
    r"(?:\"((?:[^\"\\\n]|\\.){1,300}+)\"|'([^'\n]{1,300}+)'|(-?[$\d][^\s}\]\"']{0,60}+))",
    re.IGNORECASE,
)


def tagged_answer(text: str) -> Found:
    """What the last `<answer>` element or `"answer":` field with a content holds."""
    lowered = text.lower()
    if "ans" not in lowered or not has_any(text, ("</", "[/", '":', "':", '" :', "' :")):
        return None
    for closing in reversed(deque(_CLOSING.finditer(text), maxlen=MAX_MARKERS)):
        opening = f"<{closing[1]}>" if closing[1] else f"[{closing[2]}]"
        begin = lowered.rfind(opening.lower(), max(0, closing.start() - MAX_LENGTH), closing.start())
        content = text[begin + len(opening) : closing.start()].strip() if begin >= 0 else ""
        if content and (found := _content_value(content)):
            return found
    for field in reversed(deque(_FIELD.finditer(text), maxlen=MAX_MARKERS)):
        content = field[1] or field[2] or field[3].rstrip(",")
        if found := _content_value(content.replace("\\\\", "\\")):
            return found
    return None


def _content_value(content: str) -> Found:
    for layer in (hash_answer, boxed_answer, stated_answer):
        if found := layer(content):
            return found
    if found := leading_value(first_sentence(content)):
        return found
    return sentence_value(content[-MAX_SPAN:]) if _WORDED.match(content) else _short_text(content)


# -- "the answer is" -------------------------------------------------------------------------------

_PHRASE = re.compile(
    r"(?:\b(?P<final>final)[ \t]+)?(?<!/)\banswer\b[\"'*_)]{0,3}(?:[ \t]?\([^()\n]{1,40}\))?"
    r"(?:,?[ \t](?:to|for|in|of|we|you|that|which|rounded|therefore|then)\b"
    r"(?:[ \t](?!(?:is|was|equals|would|will|should|must|could|comes)\b)[^\s.:=?!]{1,20}){0,12}+)?"
    r",?[ \t]{0,3}(?:(?P<says>(?:is|was|equals|(?:would|will|should|must|could)[ \t]be|comes[ \t]"
    r"(?:out[ \t])?to)(?:\b|(?=\d))(?![ \t]not\b)|=)"
    r"|(?P<label>:|\*{0,2}[ \t]?\n))"
    r"|^[ \t*#]{0,8}(?P<short>ans[.:]|(?-i:A):)(?=[ \t*]*\S)"
    r"|\u7b54\u6848[ ]?(?P<chinese>[:\u662f\u4e3a])",
    re.IGNORECASE | re.MULTILINE,
)
_AFTERWARDS = re.compile(
    r"\b(?:is|as|gives) (?P<after>(?:the|our|my|your) (?:(?:final|correct) )?answer)\b"
    r"(?!\s?\w*\s?[:=]| (?:is|to the)\b)",
    re.IGNORECASE,
)
_SUPPOSED = re.compile(
    r"\b(?:if|whether|suppose|assuming|unless|wrong|incorrect|previous|initial|next|first|second|third|fourth)\s(?:that\s)?(?:(?:the|our)\s)?(?:correct\s)?$",
    re.IGNORECASE,
)
_SUBQUESTIONS = re.compile(r"^[ \t#*]{0,6}(?:sub-?)?question[ \t]?\d{1,3}\.\d", re.IGNORECASE | re.MULTILINE)
_LEAD_IN = re.compile(
    r"(?:[\s:*=>}]|_{1,2}(?!_)|\\\[|\\\(|\$\$|(?<=\n)-\s|\\text\s?\{\s?(?:final\s)?answer\s?(?=[:}])){0,20}",
    re.IGNORECASE,
)
_ENUMERATED = re.compile(r"1[.)]\s[^\n]{1,200}\n\s{0,8}2[.)]\s")
_ONLY_ITEM = re.compile(r"1[.)]\s+(?=[-$\\*\d])")
_PREDICATE = re.compile(r"(?:\s[a-z]+){1,3}?\s(?:are|is|were|was|will|would|cost|costs|make|makes|gives?)\b")
_CLAUSE = re.compile(
    r"(?:that|he|she|it|they|there|we|you|I|[Tt]he|M(?:r|rs|s)\.|Dr\.|[A-Z][a-z]+)(?:'[a-z]{0,2})?\s",
    re.ASCII,
)
_PLAIN_END = re.compile(r"(?:\s(?:in|for|after|every|per)\s\d{1,20}|[^\d+*/=^]){0,60}$")


def stated_answer(text: str) -> Found:
    """What follows "final answer", or else "answer", where a value does; the last one before a new question.

    "The answer to 9 x 2 is 18, so the answer is 36" gives 36. Between two answers with a question mark
    between them, the first counts: the model has gone on to a question of its own.
    """
    if "ans" not in text.lower() and "A:" not in text and "\u7b54" not in text:
        return None
    stated = _announced(text)
    for match in islice(_AFTERWARDS.finditer(text), MAX_MARKERS):
        if found := _before(text, match.start()):
            stated.append((match.start(), match.end(), "final" in match["after"].lower(), found))
    stated.sort(key=lambda one: one[0])
    if any(is_final for *_, is_final, _ in stated):
        stated = [one for one in stated if one[2]]
    if not stated:
        return None
    chosen = stated[0]
    goes_on = _SUBQUESTIONS.search(text) is not None
    for one in stated[1:]:
        if not goes_on and "?" in text[chosen[1] : one[0]]:
            break
        if str(chosen[3]).startswith(last := str(one[3])) and text[one[1] :].strip(" $") == last:
            break  # a repetition that the token limit cut short
        if read_number(str(one[3])) or not read_number(str(chosen[3])):  # "in roman numerals, it is XVIII"
            chosen = one
    return chosen[3]


def _announced(text: str) -> list[tuple[int, int, bool, str | Hedge]]:
    """Start and end of each "answer is" that has a value, whether it says "final", and the value."""
    return [
        (match.start(), match.end(), match["final"] is not None, found)
        for match in islice(_PHRASE.finditer(text), MAX_MARKERS)
        if not _SUPPOSED.search(text, max(0, match.start() - 40), match.start())
        and (found := _after(text, match))
    ]


def restated_answer(text: str) -> Found:
    """The number named as the answer after the last box, where that holds another number: its box was a step.

    A question between the two is one that the model went on to, and the box stands.
    """
    rest = text[text.rfind("box") :] if "box" in text else ""
    announced = _announced(rest) if "answer" in rest.lower() and "?" not in rest else []
    found = announced[-1][-1] if announced else None
    if not isinstance(found, str) or (restated := read_number(found)) is None:
        return None
    boxed = boxed_answer(text)
    number = read_number(boxed) if isinstance(boxed, str) else None
    return found if number and number.value != restated.value else None


def _after(text: str, match: re.Match[str]) -> Found:
    start = _LEAD_IN.match(text, match.end())
    begin = start.end() if start else match.end()
    if _ENUMERATED.match(text, begin):
        return None
    if "\n" in text[match.end() : begin] and (item := _ONLY_ITEM.match(text, begin)):
        begin = item.end()
    line, end = _logical_line(text, begin)
    is_last = not text[end : end + MAX_SPAN].strip(" \n\t$\\])*")
    return _stated(line, is_last) if match["says"] else _labelled(line, is_last)


def _logical_line(text: str, begin: int) -> tuple[str, int]:
    """The line at `begin` with the lines that go on with its equation, and where it ends."""
    lines = text[begin : begin + MAX_SPAN].split("\n")
    line, end = lines[0], begin + len(lines[0])
    for following in lines[1:10]:
        if not line.rstrip().endswith("=") and not following.lstrip().startswith("="):
            break
        line, end = f"{line} {following}".rstrip(), end + 1 + len(following)
    return line, end


def _before(text: str, end: int) -> Found:
    """The last number of the sentence that "is the answer" ends."""
    sentence = re.split(r"\n|(?<=[.!?])\s", text[max(0, end - MAX_SPAN) : end])[-1]
    sentence = re.sub(r",?\s(?:which|that)\s?$", "", sentence)
    found = last_number(sentence) if _DIGIT.search(sentence) else None
    return found if isinstance(found, str) else None


def _stated(line: str, is_last: bool) -> Found:
    """The value after "the answer is"."""
    sentence = first_sentence(line)
    if REFUSAL.match(sentence) or REFUSAL.match(line):
        return HEDGE
    found = leading_value(sentence)
    if found is None and _CLAUSE.match(sentence):
        found = HEDGE if REFUSAL.search(sentence) else sentence_value(line)
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
    if REFUSAL.match(sentence) or REFUSAL.match(line):
        return HEDGE
    found = leading_value(sentence)
    if isinstance(found, Hedge):
        return found
    if found is not None:
        number = number_at(sentence, 0)
        if is_last and number and _PREDICATE.match(sentence, number[1]):  # "9 eggs are sold for $18"
            return sentence_value(line) or found
        ends_here = is_last and (number or not _DIGIT.search(line, line.find(". ") + 1 or len(line)))
        return found if ends_here or (number and _PLAIN_END.match(sentence, number[1])) else None
    if not is_last:
        return None
    if _CLAUSE.match(sentence):
        return (
            HEDGE if REFUSAL.search(sentence) else sentence_value(line) if _DIGIT.search(sentence) else None
        )
    return _short_text(line)


# -- the output of a program -----------------------------------------------------------------------

_OUTPUT = re.compile(r"```[ \t]*(?:output|stdout|result|text)[ \t]*\n")
_FAILED = re.compile(r"\b(?:[A-Z]\w{2,30})?(?:Error|Exception)\b|\bTraceback\b|\bTimeout\b")


def program_output(text: str) -> Found:
    """The last line of the last ```` ```output ```` block, when no number follows it.

    A run that failed is no answer.
    """
    if "```" not in text:
        return None
    block = None
    for match in _OUTPUT.finditer(text):
        block = match
    if block is None:
        return None
    closing = text.find("```", block.end())
    content, rest = (
        (text[block.end() :], "") if closing < 0 else (text[block.end() : closing], text[closing + 3 :])
    )
    if _DIGIT.search(rest):
        return None
    lines = content.strip().splitlines()
    if not lines or _FAILED.search(lines[-1]):
        return HEDGE
    line = lines[-1][:MAX_LENGTH]
    return leading_value(first_sentence(line)) or (
        sentence_value(line) if _WORDED.match(line) else _short_text(line)
    )
