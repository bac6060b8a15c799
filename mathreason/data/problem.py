"""`Problem`: the one shape every source is turned into, and every stage after it reads.

GSM8K's first training row becomes

    Problem(
        question="Natalia sold clips to 48 of her friends in April, and then she sold half as many ...",
        solution="Natalia sold 48/2 = 24 clips in May.\\nNatalia sold 48+24 = 72 clips altogether ...",
        answer="72",
        source="gsm8k",
        id="gsm8k/train/0",
    )
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Problem:
    """A word problem with its written solution.

    `solution` holds the reasoning without a final `#### answer` line (the prompt module writes that
    line, the same way for every source). `answer` is the bare answer, as text. `id` is unique within a
    job: source, split and row number. `attributes` are what the source says about the problem, such as
    {"type": "Algebra", "level": "Level 3"}; problems with one `group` share a source (variants of one
    question, questions on one text) and are no independent observations.
    """

    question: str
    solution: str
    answer: str
    source: str
    id: str
    attributes: dict[str, str] = field(default_factory=dict)
    group: str | None = None

    @property
    def steps(self) -> int:
        """Number of written steps: the lines of the solution that are not blank."""
        return sum(1 for line in self.solution.splitlines() if line.strip())

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
