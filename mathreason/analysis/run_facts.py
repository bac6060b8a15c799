"""What the report tells about a run besides its accuracy: training, data, settings and provenance.

    training_facts(run)["rows"]    [("optimizer steps", "1 123"), ("loss, first and last", "2.1 → 0.4"), ...]

Each function returns plain values with every string made visible, or None when the stage has not run. What a
run's file does not say is left out, never guessed.
"""

from __future__ import annotations

from typing import Any

from mathreason.analysis import format as fmt
from mathreason.analysis.samples import Evaluation
from mathreason.analysis.text import visible, visible_all
from mathreason.results import RunDir, read_appended, read_json

MAX_AUDIT_EXAMPLES = 20

Rows = list[tuple[str, str]]
Points = list[tuple[float, float]]


def training_facts(run: RunDir) -> dict[str, Any] | None:
    """Rows of train.json, its fallbacks, and the loss curves of log.jsonl as (step, loss)."""
    log = read_appended(run.log)
    train = read_json(run.train) if run.train.exists() else {}
    if not train and not log:
        return None
    validation = _points(train.get("validation") or [], "loss") or _points(log, "validation_loss")
    return {
        "rows": _rows(train, _TRAINING_ROWS),
        "finished": bool(train),
        "fallbacks": visible_all(train.get("fallbacks") or []),
        "training_points": _points(log, "loss"),
        "validation_points": validation,
    }


def _points(lines: list[dict[str, Any]], key: str) -> Points:
    """(step, value) in order; of a step logged again after a resume, the later line counts."""
    found = {
        float(line["step"]): float(line[key])
        for line in lines
        if isinstance(line.get("step"), int | float) and isinstance(line.get(key), int | float)
    }
    return sorted(found.items())


def _loss(loss: dict[str, Any]) -> str:
    return " → ".join(f"{loss[end]:.3f}" for end in ("first", "last") if loss.get(end) is not None)


def _best(best: dict[str, Any]) -> str:
    loss = f", validation loss {best['loss']:.3f}" if best.get("loss") is not None else ""
    return f"step {best.get('step')}{loss} ({best.get('why')})"


def _seconds(seconds: float) -> str:
    """A duration for people: "48 s", "12 min 5 s", "3 h 20 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


_TRAINING_ROWS = {
    "status": ("status", str),
    "steps": ("optimizer steps", fmt.count),
    "epochs": ("epochs", lambda epochs: f"{epochs:g}"),
    "loss": ("training loss, first → last", _loss),
    "best": ("adapter kept", _best),
    "learning_rate": ("learning rate", lambda rate: f"{rate:g}"),
    "supervised_tokens": ("tokens trained on (completions)", fmt.count),
    "total_tokens": ("tokens read, prompts included", fmt.count),
    "supervised_tokens_per_second": ("trained tokens per second", lambda rate: fmt.count(round(rate))),
    "total_tokens_per_second": ("tokens per second, prompts included", lambda rate: fmt.count(round(rate))),
    "peak_memory_bytes": ("peak memory", lambda size: f"{size / 2**30:.1f} GiB"),
    "wall_seconds": ("time", _seconds),
    "trainable_parameters": ("trainable parameters", fmt.count),
    "frozen_parameters": ("frozen parameters", fmt.count),
}


def _rows(values: dict[str, Any], table: dict[str, tuple[str, Any]]) -> Rows:
    return [
        (label, visible(write(values[key])))
        for key, (label, write) in table.items()
        if values.get(key) is not None
    ]


def data_facts(run: RunDir) -> dict[str, Any] | None:
    """The sources with what was dropped from each, the sizes, and what the contamination audit found."""
    if not run.data.exists():
        return None
    data = read_json(run.data)
    sources = data.get("sources") or []
    audit = data.get("audit") or {}
    reasons = sorted({reason for source in sources for reason in source.get("dropped") or {}})
    return {
        "reasons": [visible(reason.replace("_", " ")) for reason in reasons],
        "sources": [
            {
                "name": visible(f"{source.get('source')} {source.get('split') or ''}".strip()),
                "cells": [
                    "all" if source.get("asked") is None else _number(source["asked"]),
                    *(_number(source.get(key)) for key in ("read", "taken")),
                ],
                "dropped": [_number((source.get("dropped") or {}).get(reason, 0)) for reason in reasons],
                "from": visible(str(source.get("from") or "")),
                "fallback": visible(str(source["fallback"])) if source.get("fallback") else None,
            }
            for source in sources
        ],
        "rows": _data_rows(data),
        "audit": _audit(audit) if audit else None,
    }


def _number(value: Any) -> str:
    return fmt.count(value) if isinstance(value, int) else "–"


def _data_rows(data: dict[str, Any]) -> Rows:
    rows: Rows = []
    for part, found in (data.get("counts") or {}).items():
        tokens = (data.get("tokens") or {}).get(part) or {}
        sizes = [f"{fmt.count(size)} {kind} tokens" for kind, size in tokens.items()]
        rows.append((visible(part), visible(", ".join([f"{fmt.count(found)} problems", *sizes]))))
    hashes = data.get("hashes") or {}
    return rows + [(visible(f"{part} sha256"), visible(str(each))) for part, each in hashes.items()]


def _audit(audit: dict[str, Any]) -> dict[str, Any]:
    return {
        "benchmarks": visible(", ".join(audit.get("benchmarks") or [])),
        "policy": visible(str(audit.get("policy"))),
        **{key: audit.get(key, 0) for key in ("checked", "matched", "exact", "ngram", "kept_contaminated")},
        "by_source": [
            (visible(name), _number(found.get("checked")), _number(found.get("matched")))
            for name, found in (audit.get("by_source") or {}).items()
        ],
        "examples": visible_all((audit.get("examples") or [])[:MAX_AUDIT_EXAMPLES]),
    }


def evaluation_facts(sides: dict[str, Evaluation | None]) -> dict[str, Any]:
    """Settings of the evaluations of a benchmark, a column a side, and the prompt of the first item."""
    present = {side: found.summary for side, found in sides.items() if found is not None}
    columns = {side: _evaluation_column(summary) for side, summary in present.items()}
    labels = list(dict.fromkeys(label for column in columns.values() for label in column))
    prompts = [(summary.get("prompt") or {}).get("example") for summary in present.values()]
    return {
        "sides": list(columns),
        "rows": [(label, [column.get(label, "–") for column in columns.values()]) for label in labels],
        "prompt": next((visible(prompt) for prompt in prompts if prompt), None),
    }


def _evaluation_column(summary: dict[str, Any]) -> dict[str, str]:
    """Label and text of every single value in an evaluation's settings."""
    column: dict[str, str] = {}
    for group in ("model", "adapter", "prompt", "settings", "timing"):
        for key, value in (summary.get(group) or {}).items():
            if value is not None and key != "example":
                written = f"{value:.4g}" if isinstance(value, float) else str(value)
                column[visible(f"{group}: {key}".replace("_", " "))] = visible(written)
    column["items sha256"] = visible(str(summary.get("items_sha256")))
    return column


def shown_status(facts: dict[str, Any]) -> str | None:
    """The run's status; None while it runs, since the report is its last stage and outlives that word."""
    status = facts.get("status")
    return None if status in (None, "running") else str(status)


def provenance_facts(run: RunDir) -> Rows:
    """Who ran what, where and when, from run.json."""
    facts = read_json(run.run)
    provenance = facts.get("provenance") or {}
    git = provenance.get("git") or {}
    rows = [
        ("run", run.id),
        ("status", shown_status(facts)),
        ("started", facts.get("started_at")),
        ("finished", facts.get("finished_at")),
        *((f"stage {name}", _stage(stage)) for name, stage in (facts.get("stages") or {}).items()),
        ("job hash", facts.get("job_hash")),
        ("code", git.get("commit")),
        ("code differs from its commit", "yes" if git.get("dirty") else None),
        ("host", provenance.get("host")),
        ("platform", provenance.get("platform")),
        *((provenance.get("versions") or {}).items()),
    ]
    return [(visible(label), visible(str(value))) for label, value in rows if value is not None]


def _stage(stage: Any) -> str | None:
    seconds = stage.get("seconds") if isinstance(stage, dict) else None
    return _seconds(seconds) if seconds is not None else None
