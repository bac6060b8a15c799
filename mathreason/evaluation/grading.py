"""Whether a response gives the reference answer.

    grade("She makes 9*2=18.\\n#### $18.00", "18")   -> Grade(extracted="18.00", correct=True, ...)
    grade("#### 16.5", "16")                         -> Grade(extracted="16.5", correct=False, ...)

    with Grader() as grader:                         # for many: its symbolic process ends with the block
        grader.grade("So \\\\boxed{11+x}.", "x+11").correct      -> True

Numbers are compared as exact fractions: no rounding, no relative tolerance, no factor of 100. Three
readings are open, because people or programs write them:

- A percent sign, on one side only, may be a unit: "50%" answers 50 and 0.5; "0.5%" does not answer "50%".
- A decimal with two or more places answers a reference that no decimal can write (1/3), if it is that
  reference rounded to its places: 0.33 answers 1/3, while 0.13 does not answer 1/8.
- A float of ten decimals or more answers a multiple of a root or of pi: 1.41421356237310 answers \\sqrt{2}.

Anything else is compared by `equivalence`: lists in any order, tuples in theirs, arithmetic by its value,
and algebra by math-verify in a process with a time limit. A comparison that runs out of it is "not
correct", and `timed_out` says so. Where the reference is a number, that process is never used.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from types import TracebackType
from typing import Any

from mathreason.errors import InputError
from mathreason.evaluation.equivalence import equivalent
from mathreason.evaluation.extraction import Strategy, extract
from mathreason.evaluation.harness import HarnessTask, gsm8k_cot_verdicts, gsm8k_verdicts
from mathreason.evaluation.normalisation import normalise_answer
from mathreason.evaluation.symbolic import SECONDS, SymbolicProcess, Verdict

MAX_REFERENCE = 500
"""Characters of a reference answer; a longer one is a solution, not an answer."""


@dataclass(frozen=True, slots=True)
class Grade:
    """`extracted` is None where the response commits to no answer; that is never correct.

    The two `lm_eval_` fields are how lm-evaluation-harness judges the same response.
    """

    extracted: str | None
    strategy: Strategy
    correct: bool
    lm_eval_strict: bool
    lm_eval_flexible: bool
    timed_out: bool

    def to_dict(self) -> dict[str, Any]:
        """What a graded row of any file holds of its grade."""
        return asdict(self)


def grade(response: str, answer: str) -> Grade:
    """Grade `response` against the reference `answer`; see `Grader.grade`."""
    return _shared_grader().grade(response, answer)


@cache
def _shared_grader() -> Grader:
    return Grader()  # its process, if it ever starts one, ends with this one


class Grader:
    """Grades responses; holds the process for symbolic comparison, which starts with its first use.

    With `symbolic` False, expressions are compared without it. `harness` is the task of
    lm-evaluation-harness that the `lm_eval_` fields follow.
    """

    def __init__(self, symbolic: bool = True, harness: HarnessTask = "gsm8k") -> None:
        self._theirs = gsm8k_cot_verdicts if harness == "gsm8k_cot" else gsm8k_verdicts
        self._symbolic = SymbolicProcess() if symbolic else None

    def __enter__(self) -> Grader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process, if there is one."""
        if self._symbolic is not None:
            self._symbolic.close()

    def grade(self, response: str, answer: str) -> Grade:
        """Grade `response` against the reference `answer`.

        Of a whole solution as the reference, what follows its `####` counts, or its final box. Raises
        InputError when the reference is empty or longer than `MAX_REFERENCE` characters.
        """
        reference = _reference(answer)
        extraction = extract(response)
        verdict: Verdict = "different"
        if extraction.answer is not None:
            verdict = equivalent(extraction.answer, reference, _Asking(self._symbolic))
        theirs = self._theirs(response, answer)
        return Grade(
            extracted=extraction.answer,
            strategy=extraction.strategy,
            correct=verdict == "equal",
            lm_eval_strict=theirs.strict,
            lm_eval_flexible=theirs.flexible,
            timed_out=verdict == "timeout",
        )


class _Asking:
    """The questions about one response: all of them together have the time of one."""

    def __init__(self, symbolic: SymbolicProcess | None) -> None:
        self._symbolic = symbolic
        self._left = SECONDS

    def __call__(self, candidate: str, reference: str) -> Verdict:
        if self._symbolic is None:
            return "refused"
        if self._left <= 0:
            return "timeout"
        self._symbolic.start()
        started = time.monotonic()
        verdict = self._symbolic.equal(candidate, reference, self._left)
        self._left -= time.monotonic() - started
        return verdict


@lru_cache(maxsize=4096)
def _reference(answer: str) -> str:
    if "\\boxed" in answer and (solution := extract(answer)).strategy == "boxed" and solution.answer:
        return solution.answer
    text = " ".join(answer.rpartition("####")[2].split())
    if len(text) > MAX_REFERENCE or not (normalised := normalise_answer(text)):
        shown = answer if len(answer) <= 60 else answer[:60] + "..."
        raise InputError(
            f"the reference answer {shown!r} cannot be graded against; give a number or a short expression"
        )
    return normalised
