"""Verdicts as lm-evaluation-harness gives them, so that a score can stand beside a published one.

    gsm8k_verdicts("She sells 16 - 7 = 9 eggs.\\n#### 9", "9")      # strict True,  flexible True
    gsm8k_verdicts("She makes 9 * 2 = $18.00 a day.", "18")         # strict False, flexible False
    gsm8k_cot_verdicts("So 5 + 4 = 9. The answer is 9.", "9")       # strict True,  flexible True

These are the filters and the metric of lm-evaluation-harness 0.4.13, quirks included: texts are compared,
not numbers (`18.00` is not `18`), and a final `The answer is 15` without a full stop reads as `1`. Our own
verdict is `mathreason.evaluation.grading`'s. `benchmarks/verdicts_vs_lm_eval.py` compares the two programs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

_NO_MATCH = "[invalid]"  # what its regex filter returns when nothing matches

_GSM8K_STRICT = re.compile(r"#### (-?[0-9.,]+)")
# The character after the number is part of the pattern: where none follows on the line, the number's own
# last character takes its place.
_GSM8K_COT_STRICT = re.compile(r"The answer is (-?[0-9.,]+).")
# The last match of `(-?[$0-9.,]{2,})|(-?[0-9]+)`, found as the first one of the text read backwards: a match
# always is a whole run of these characters, so both directions cut the text alike.
_FLEXIBLE_BACKWARDS = re.compile(r"(?:[$0-9.,]{2,}|[0-9])-?")
_FINAL_FULL_STOP = re.compile(r"\.$")


@dataclass(frozen=True, slots=True)
class HarnessVerdicts:
    """`exact_match` of a response under the filters strict-match and flexible-extract."""

    strict: bool
    flexible: bool


HarnessTask = Literal["gsm8k", "gsm8k_cot"]


def harness_task(few_shot_format: str) -> HarnessTask:
    """The task whose verdicts compare for responses to prompts of this format."""
    return "gsm8k_cot" if few_shot_format == "lm_eval_gsm8k_cot" else "gsm8k"


def gsm8k_verdicts(response: str, answer: str) -> HarnessVerdicts:
    """How the task `gsm8k` judges `response`, in time linear in its length.

    `answer` is the data set's `answer` column (a solution that ends in `#### 18`) or the answer alone.
    """
    return _verdicts(_GSM8K_STRICT, response, answer)


def gsm8k_cot_verdicts(response: str, answer: str) -> HarnessVerdicts:
    """How the task `gsm8k_cot` judges `response`; `answer` as in `gsm8k_verdicts`."""
    # Not rsplit: the harness cuts from the left, so that `#####5` leaves `#5`.
    return _verdicts(_GSM8K_COT_STRICT, response, answer.split("####")[-1].strip())  # noqa: PLC0207


def _verdicts(strict: re.Pattern[str], response: str, target: str) -> HarnessVerdicts:
    wanted = _comparable(target)
    first = strict.search(response)
    last = _FLEXIBLE_BACKWARDS.search(response[::-1])
    return HarnessVerdicts(
        strict=_comparable(first.group(1) if first else _NO_MATCH) == wanted,
        flexible=_comparable(last.group()[::-1] if last else _NO_MATCH) == wanted,
    )


def _comparable(text: str) -> str:
    r"""`text` without what exact_match ignores (`,` `\$` `(?s).*#### ` `\.$`, in this order), in lower case.

    Between the steps the text is an element of a NumPy array, which drops NUL characters at its end.
    """
    text = text.replace(",", "").rstrip("\0")
    text = text.replace("$", "").rstrip("\0")
    text = text.rpartition("#### ")[2].rstrip("\0")
    return _FINAL_FULL_STOP.sub("", text).rstrip("\0").lower()
