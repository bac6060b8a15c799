"""lm-evaluation-harness's hf backend on gsm8k_cot; runs in its virtual environment, without mathreason.

    python lm_eval_generation.py MODEL DATA_DIR ITEMS BATCH_SIZE DTYPE MEMORY_GIB > result.json

Prints {"seconds", "peak_gib", "items": [{"position", "prompt", "response", "strict", "flexible"}]}; the
seconds are those of `generate_until` alone, without loading, task building and judging.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path


def main() -> None:
    model, data_dir, items, batch_size, dtype, gib = sys.argv[1:]
    # What lm_eval prints goes to standard error; the result alone to standard output.
    result = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    from lm_eval.models.huggingface import HFLM  # type: ignore[import-not-found]
    from lm_eval_side import FILTERS, task

    resource.setrlimit(resource.RLIMIT_AS, (int(float(gib) * 2**30), resource.RLIM_INFINITY))
    language_model = HFLM(
        pretrained=model,
        dtype=dtype,
        device="cpu",
        batch_size=batch_size if batch_size == "auto" else int(batch_size),
        max_length=2048,
    )
    made = task("gsm8k_cot", Path(data_dir).resolve())
    made.build_all_requests(limit=int(items), rank=0, world_size=1)
    started = time.perf_counter()
    responses = language_model.generate_until(made.instances, disable_tqdm=True)
    seconds = time.perf_counter() - started
    rows = []
    for position, (instance, response) in enumerate(zip(made.instances, responses, strict=True)):
        instance.resps = [response]
        rows.append({"position": position, "prompt": instance.args[0], "response": response})
    made.apply_filters()
    for row, instance in zip(rows, made.instances, strict=True):
        for verdict, key in FILTERS.items():
            judged = made.process_results(instance.doc, [instance.filtered_resps[key]])
            row[verdict] = bool(judged["exact_match"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    json.dump({"seconds": seconds, "peak_gib": peak, "items": rows}, result)


if __name__ == "__main__":
    main()
