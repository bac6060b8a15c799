"""What an evaluation's JSON says of its samples: accuracy, and what the accuracy must be read with.

    summarise(rows)      # {"n": 1319, "accuracy": {...}, "counts": {"truncated": 3, ...}, "lm_eval": {...}}

`rows` are the lines of a samples file. The same function serves a new evaluation and one whose saved
samples are graded again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mathreason.analysis.statistics import wilson


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Accuracy over all responses with its interval, counts, and the scores of lm-evaluation-harness.

    With several responses to an item, n counts responses; `analysis.compare` has the statistics of those.
    """
    items = len({row["index"] for row in rows})
    return {
        "n": len(rows),
        "items": items,
        "samples_per_item": len(rows) // items,
        "accuracy": asdict(wilson(sum(row["correct"] for row in rows), len(rows))),
        "counts": {
            "truncated": sum(row["truncated"] for row in rows),
            "no_answer": sum(row["extracted"] is None for row in rows),
            "fallback_extracted": sum(row["strategy"] == "last_number" for row in rows),
            "timed_out": sum(row["timed_out"] for row in rows),
        },
        "lm_eval": {
            name: asdict(wilson(sum(row[f"lm_eval_{name}"] for row in rows), len(rows)))
            for name in ("strict", "flexible")
        },
    }
