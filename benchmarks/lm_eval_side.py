"""lm-evaluation-harness's own answers; runs in its virtual environment (`lm_eval_venv`), without mathreason.

    python lm_eval_side.py verdicts DATA_DIR < rows.jsonl > verdicts.jsonl
    python lm_eval_side.py prompts DATA_DIR > prompts.jsonl

The tasks are its own YAML files; only where their data set lies is changed (`DATA_DIR/<set>/<split>.jsonl`).
Responses go through the tasks' filters and `process_results`, prompts through `build_all_requests`, as in its
evaluator.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import lm_eval  # type: ignore[import-not-found]
from lm_eval.api.instance import Instance  # type: ignore[import-not-found]
from lm_eval.api.task import ConfigurableTask  # type: ignore[import-not-found]
from lm_eval.defaults import DEFAULT_MAX_GEN_TOKS, DEFAULT_OTHER_SEED  # type: ignore[import-not-found]
from lm_eval.tasks._yaml_loader import load_yaml  # type: ignore[import-not-found]

TASKS = {
    "gsm8k": ("gsm8k/gsm8k.yaml", ("gsm8k", "train", "test")),
    "gsm8k_cot": ("gsm8k/gsm8k-cot.yaml", ("gsm8k", "train", "test")),
    "gsm8k_platinum": ("gsm8k_platinum/gsm8k-platinum.yaml", ("gsm8k_platinum", "test")),
}
FILTERS = {"strict": "strict-match", "flexible": "flexible-extract"}


def task(name: str, data_dir: Path) -> Any:
    """The task `name` of lm_eval, with the seed its evaluator gives it, on local files."""
    declaration, (folder, *splits) = TASKS[name]
    config = load_yaml(Path(lm_eval.__file__).parent / "tasks" / declaration, resolve_func=True)
    config["dataset_path"], config["dataset_name"] = "json", None
    files = {split: str(data_dir / folder / f"{split}.jsonl") for split in splits}
    config["dataset_kwargs"] = {"data_files": files}
    made = ConfigurableTask(config=config)
    made.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)
    return made


def verdicts(data_dir: Path) -> None:
    """Read rows {"task", "response", "answer"}; write {"strict", "flexible"} for each, in their order."""
    rows = [json.loads(line) for line in sys.stdin]
    judged: list[dict[str, bool]] = [{} for _ in rows]
    for name in sorted({row["task"] for row in rows}):
        of_task = [i for i, row in enumerate(rows) if row["task"] == name]
        made = task(name, data_dir)
        made._instances = [_instance(rows[i], i) for i in of_task]
        made.apply_filters()
        for i, instance in zip(of_task, made._instances, strict=True):
            for verdict, key in FILTERS.items():
                result = made.process_results(instance.doc, [instance.filtered_resps[key]])
                judged[i][verdict] = bool(result["exact_match"])
    for row in judged:
        sys.stdout.write(json.dumps(row) + "\n")


def _instance(row: dict[str, Any], index: int) -> Any:
    doc = {"question": "", "answer": row["answer"]}
    made = Instance(request_type="generate_until", doc=doc, arguments=("", {}), idx=index)
    made.resps = [row["response"]]
    return made


def prompts(data_dir: Path) -> None:
    """Write {"task", "position", "prompt", "stop", "max_new_tokens"} for each document of each task."""
    for name in TASKS:
        made = task(name, data_dir)
        made.build_all_requests(limit=None, rank=0, world_size=1)
        for position, instance in enumerate(made.instances):
            prompt, generation = instance.args
            limit = generation.get("max_gen_toks", DEFAULT_MAX_GEN_TOKS)
            row = {"task": name, "position": position, "prompt": prompt}
            row |= {"stop": generation["until"], "max_new_tokens": limit}
            sys.stdout.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    {"verdicts": verdicts, "prompts": prompts}[sys.argv[1]](Path(sys.argv[2]).resolve())
