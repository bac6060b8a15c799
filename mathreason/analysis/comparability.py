"""May two evaluations be compared, and what has to be said about them if so.

    require_comparable("gsm8k", base, tuned)     # InputError: other items, prompts, limits or sampling
    warnings_of("gsm8k", "tuned", tuned)         # ["gsm8k: 21 of 300 tuned responses were cut off ..."]
    warnings_between("gsm8k", base, tuned, same_model=True)

Refused is what makes the difference mean something else; warned of is what may explain a part of it.
"""

from __future__ import annotations

from typing import Any

from mathreason.analysis.samples import Evaluation, require
from mathreason.errors import InputError

SMALL_N = 100
FEW_GROUPS = 20
MANY_TRUNCATED = 0.05

_MUST_AGREE = {"max_new_tokens": None, "stop": None, "temperature": 0.0, "top_p": 1.0}
"""Settings that decide what a response can be, with what an evaluation means that does not name them."""


def require_comparable(
    benchmark: str, base: Evaluation, tuned: Evaluation, same_prompts: bool = True
) -> None:
    """Raise InputError unless both evaluations asked the same items in the same way.

    `same_prompts` is False where the prompt is what is being compared.
    """
    where = f"{benchmark}: {base.path} and {tuned.path} cannot be compared:"
    advice = "evaluate both again with the same job"
    if base.summary.get("items_sha256") != tuned.summary.get("items_sha256"):
        raise InputError(f"{where} their items differ (items_sha256); {advice}")
    for before, after in zip(base.first, tuned.first, strict=False):
        if (before.index, before.id) != (after.index, after.id):
            raise InputError(f"{where} item {before.id} stands against {after.id}; {advice}")
        if same_prompts and before.prompt_sha256 != after.prompt_sha256:
            raise InputError(f"{where} the prompts of item {before.id} differ; {advice}")
        if before.group != after.group:
            raise InputError(f"{where} item {before.id} is in another group; {advice}")
    if len(base.items) != len(tuned.items):
        raise InputError(f"{where} {len(base.items)} items against {len(tuned.items)}; {advice}")
    settings = {
        name: (base.setting(name, usual), tuned.setting(name, usual)) for name, usual in _MUST_AGREE.items()
    }
    settings["samples"] = (base.samples_per_item, tuned.samples_per_item)
    for name, (before, after) in settings.items():
        if before != after:
            raise InputError(f"{where} {name} is {before!r} against {after!r}; {advice}")


def contamination(evaluations: list[Evaluation]) -> dict[str, Any]:
    """The contamination record of the first evaluation that is marked, else of the first one."""
    records: list[dict[str, Any]] = [
        require(each.summary, "contamination", dict, str(each.path)) for each in evaluations
    ]
    marked = [record for record in records if not record.get("clean")]
    return (marked or records)[0]


def warnings_of(benchmark: str, label: str, side: Evaluation) -> list[str]:
    """What one evaluation says against itself."""
    found: list[str] = []
    record = contamination([side])
    if not record.get("clean"):
        note = record.get("note") or "test items were found in the training data"
        found.append(f"CONTAMINATED: {benchmark}: {note}. The accuracy does not measure what was learned.")
    if len(side.items) < SMALL_N:
        found.append(f"{benchmark}: only {len(side.items)} items, see how wide the intervals are")
    elif side.clusters.count < FEW_GROUPS:
        found.append(
            f"{benchmark}: the {len(side.items)} items form only {side.clusters.count} groups, "
            "too few to be sure how uncertain the figures are"
        )
    n = len(side.samples)
    cut = sum(sample.truncated for sample in side.samples)
    if cut > MANY_TRUNCATED * n:
        found.append(
            f"{benchmark}: {cut} of {n} {label} responses were cut off at "
            f"{side.setting('max_new_tokens')} tokens; raise max_new_tokens"
        )
    return found + [f"{benchmark}: {label} fell back: {text}" for text in side.summary.get("fallbacks") or []]


def warnings_between(benchmark: str, base: Evaluation, tuned: Evaluation, same_model: bool) -> list[str]:
    """What may explain a part of the difference; `same_model`: the adapter alone should differ."""
    found = _differing(benchmark, "engine", base.setting("engine"), tuned.setting("engine"))
    found += _differing(benchmark, "the grader", base.summary.get("grader"), tuned.summary.get("grader"))
    if not same_model:
        return found
    if [sample.response for sample in base.samples] == [sample.response for sample in tuned.samples]:
        found.append(
            f"{benchmark}: every tuned response equals the base response; "
            "the adapter seems not to have been applied"
        )
    models = [require(side.summary, "model", dict, str(side.path)) for side in (base, tuned)]
    for name in ("name", "revision", "dtype", "quantization", "attention"):
        found += _differing(benchmark, f"the model's {name}", models[0].get(name), models[1].get(name))
    return found


def _differing(benchmark: str, what: str, before: Any, after: Any) -> list[str]:
    if before == after:
        return []
    return [f"{benchmark}: {what} differs, {before} against {after}; part of the difference may come from it"]
