"""What an evaluation's JSON says of its samples: accuracy, and what the accuracy must be read with.

    summarise(rows)      # {"n": 1319, "accuracy": {...}, "counts": {"truncated": 3, ...}, "lm_eval": {...}}

`rows` are the lines of a samples file. The same function serves a new evaluation and one whose saved
samples are graded again.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from mathreason.analysis.clustered import Clusters, cluster_items, clustered_accuracy

GRADER_MODULES = (
    *("boxes", "claims", "closed_form", "equivalence", "extraction", "grading", "harness", "markers"),
    *("markup", "normalisation", "numbers", "passages", "shapes", "symbolic", "symbolic_worker", "values"),
)


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Accuracy over all responses, counts, and the scores of lm-evaluation-harness, with their intervals.

    `n` counts responses. Several responses to an item, and items of one group, are no independent
    observations: the intervals are as wide as the groups make them.
    """
    items: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        items[row["index"]].append(row)
    samples = len(rows) // len(items)
    clusters = cluster_items([found[0].get("group") for found in items.values()])

    def share(key: str) -> dict[str, Any]:
        return _share([sum(row[key] for row in found) for found in items.values()], samples, clusters)

    return {
        "n": len(rows),
        "items": len(items),
        "samples_per_item": samples,
        "accuracy": share("correct"),
        "counts": {
            "truncated": sum(row["truncated"] for row in rows),
            "no_answer": sum(row["extracted"] is None for row in rows),
            "fallback_extracted": sum(row["strategy"] == "last_number" for row in rows),
            "timed_out": sum(row["timed_out"] for row in rows),
        },
        "lm_eval": {name: share(f"lm_eval_{name}") for name in ("strict", "flexible")},
        "grader": grader_version(),
    }


def _share(right: Sequence[int], samples: int, clusters: Clusters) -> dict[str, Any]:
    return asdict(clustered_accuracy(right, samples, clusters))


@cache
def grader_version() -> str:
    """12 hexadecimal digits that change with the grader's code: its verdicts may then be other ones."""
    folder, digest = Path(__file__).parent, hashlib.sha256()
    for module in GRADER_MODULES:
        digest.update((folder / f"{module}.py").read_bytes())
    return digest.hexdigest()[:12]
