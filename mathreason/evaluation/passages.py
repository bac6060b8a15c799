"""Which part of a response answers the question: not its thinking, its next question or its check.

    own_answer("<think>3?</think>It is 18.\\nQuestion: Tom has ...") -> "It is 18.\\n"
    attempts("The answer is 7. Oops, it is 8.")                     -> ["The answer is 7. ", ", it is 8."]
    before_check("So there are 5.\\nCheck: 2 + 5 = 7")              -> "So there are 5.\\n"

All take `markup.plain_characters` text.
"""

from __future__ import annotations

import re
from itertools import islice

MAX_MARKERS = 50
"""Markers of one kind that are looked at in one response."""

_TURN_SIGNS = ("<|", "s>", "_turn>", "<pad>", "INST]", "assistant", "user", "human", "I hope", "Below is")
_THOUGHT = re.compile(r"</(?:think|thinking|thought|reasoning|scratchpad)>", re.IGNORECASE)
_TURN = re.compile(
    r"<\|[^|<>\n]{2,30}\|>|</?s>|<(?:end_of_turn|start_of_turn|eos|pad)>|\[/?INST\]"
    r"|(?:^|(?<=[.!?*}\d)]))(?:assistant|user|human)[ \t]?\n|\bI hope (?:it|this) is correct\b"
    r"|^Below is an instruction",
    re.MULTILINE,
)
_PROMPT = re.compile(
    r"\s{0,8}(?:<bos>|<s>|<\|begin_of_text\|>)?(?:<\|im_start\|>|<start_of_turn>|<\|start_header_id\|>)?"
    r"(?:system|user|human)(?:<\|end_header_id\|>)?[ \t]*\n"
)
_REPLY = re.compile(
    r"^(?:<[^<>\n]{2,30}>){0,3}(?:assistant|model)(?:<\|end_header_id\|>)?:?[ \t]*$", re.MULTILINE
)
_ASKS = r"question|problem|exercise|q|human|user"
_MAY_ASK = r"instruction|example|task|input|prompt|puzzle"
_HEADER = re.compile(
    r"^[ \t]{0,8}[#*]{0,6}[ \t]?\[?(?:(?:next|new|another|follow-up)[ \t])?"
    rf"(?:(?:{_ASKS})|(?P<weak>{_MAY_ASK}))"
    r"(?P<numbered>[ \t]?#?\d{1,4}(?P<part>\.\d{1,3})?)?(?:\*{0,2}\]?[ \t]?[:.]|\])"
    rf"|^[ \t]{{0,3}}(?:#{{1,6}}[ \t]?|\*\*)(?:{_ASKS}|instruction)(?P<heading>[ \t]?#?\d{{1,4}})?"
    r"(?:\*\*)?[ \t]*$",
    re.MULTILINE | re.IGNORECASE,
)
_HEADER_WORDS = (*_ASKS.replace("|q|", "|").split("|"), *_MAY_ASK.split("|"))
_COMMITS = re.compile(
    r"####|boxed|\banswer\b(?:[^.\n]{0,40}(?:is|:|=)\s{0,5}[^\s\d]{0,5}|\W{0,6})\d|\btherefore\b",
    re.IGNORECASE,
)
SAYS_SOMETHING = re.compile(
    r"\d|####|boxed(?!\s?\{\s?\})|answer(?!\s(?:the|this|these|each)\s)|therefore", re.IGNORECASE
)
"""Matches in text that has begun to answer."""


_Q = re.compile(r"\bq\b|\bq\d")


def has_any(text: str, parts: tuple[str, ...]) -> bool:
    """Whether `text` holds one of `parts`: a quick look before a slow search."""
    return any(part in text for part in parts)


def own_answer(text: str) -> str:
    """`text` after a prompt that it repeats, after its thinking, up to the next turn or the next question.

    A question restated at the start stays, and so do the parts "Question 1:", "Question 2:" of a solution
    that has not yet named an answer, and "Question 1.1:", "Question 1.2:" throughout.
    """
    if _PROMPT.match(text) and (reply := _REPLY.search(text)):
        text = text[reply.end() :]
    if "</" in text:
        text = _after_thinking(text)
    said = _end_of(SAYS_SOMETHING, text)
    if has_any(text, _TURN_SIGNS):
        for turn in islice(_TURN.finditer(text), MAX_MARKERS):
            if said <= turn.start():
                text = text[: turn.start()]
                break
    lowered = text.lower()
    if not has_any(lowered, _HEADER_WORDS) and _Q.search(lowered) is None:
        return text
    committed = _end_of(_COMMITS, text)
    for header in islice(_HEADER.finditer(text), MAX_MARKERS):
        is_doubtful = header["numbered"] or header["heading"] or header["weak"]
        if not header["part"] and (committed if is_doubtful else said) <= header.start():
            return text[: header.start()]
    return text


def _end_of(pattern: re.Pattern[str], text: str) -> int:
    match = pattern.search(text)
    return match.end() if match else len(text) + 1


def _after_thinking(text: str) -> str:
    """What follows the last closing tag of a thought, if it says something."""
    end = 0
    for closing in _THOUGHT.finditer(text):
        end = closing.end()
    return text[end:] if end and SAYS_SOMETHING.search(text, end) else text


# -- second thoughts -------------------------------------------------------------------------------

_RETRACTION = re.compile(
    r"(?:^|(?<=[.!?\n])|(?<=[.!?]\s))\s?(?:(?:hmm|oh|but|no)[,.]?\s)?"
    r"(?:wait[,.!:-]|oops|scratch that|on second thought|correction:|actually, (?:no|that|I)|sorry, "
    r"|my mistake|I apologi[sz]e|I made an? (?:mistake|error)"
    r"|(?:let me|let's) (?:recalculate|redo|correct|fix|try again)"
    r"|that(?:'s| is| was) (?:wrong|incorrect|not right))",
    re.IGNORECASE,
)
_RETRACTION_SIGNS = (
    "wait", "oops", "scratch", "second thought", "correct", "actually", "sorry", "mistake", "apolog", "error",
    "recalc", "redo", "fix", "try again", "wrong", "not right",
)  # fmt: skip
_CHECK = re.compile(
    r"(?:^|(?<=[.!?]\s)|(?<=\n))[ \t*#(]{0,6}(?:(?:now,?\s)?(?:let me|let's|let us|we can|to)\s)?"
    r"(?:double[- ]?)?(?:check|checking|verify|verifying|verification|proof)\b"
    r"(?=[*\s]{0,3}(?:[:,.]|$)|\s(?:that|this|our|my|your|it|if|whether|by|with|answer|work"
    r"|the\s(?:answer|result|solution|calculations?|total|work))\b)",
    re.IGNORECASE | re.MULTILINE,
)


def attempts(text: str) -> list[str]:
    """`text` cut where it takes back what it said: "Wait, ...", "Oops", "That is wrong"."""
    if not has_any(text.lower(), _RETRACTION_SIGNS):
        return [text]
    return _RETRACTION.split(text)[-MAX_MARKERS:]


def before_check(text: str) -> str:
    """`text` without the verification after its result."""
    if not has_any(text.lower(), ("check", "verif", "proof")):
        return text
    match = _CHECK.search(text)
    return text[: match.start()] if match and re.search(r"\d", text[: match.start()]) else text
