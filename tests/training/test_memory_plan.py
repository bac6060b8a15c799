"""The plan of a training step: exact where it can be counted by hand, and the same by every way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from mathreason.config import JobConfig
from mathreason.training.memory_plan import (
    Content,
    Setting,
    Tracer,
    changes,
    content_of,
    largest_micro_batch,
    setting_of,
)


def tracer_of(job: dict[str, Any], **sections: dict[str, Any]) -> tuple[Tracer, Setting]:
    values = {**job, **{name: {**job[name], **more} for name, more in sections.items()}}
    config = JobConfig.model_validate(values)
    return Tracer(config, "cpu", Content()), setting_of(config)


def bytes_of_model(model: Any, trained: bool) -> int:
    tensors = {id(p): p for p in (*model.parameters(), *model.buffers())}
    return sum(t.numel() * t.element_size() for t in tensors.values() if t.requires_grad is trained)


def test_weights_and_what_is_trained_are_those_of_the_loaded_model(job: dict[str, Any], loaded: Any) -> None:
    from mathreason.config import LoraConfig
    from mathreason.training.train import add_lora

    tracer, setting = tracer_of(job)
    peaks = tracer.peaks(setting)
    model = add_lora(loaded.model, LoraConfig(**job["lora"]))
    assert peaks.weights == bytes_of_model(model, trained=False)
    assert peaks.adapter == bytes_of_model(model, trained=True)
    assert peaks.gradients == peaks.adapter
    assert peaks.optimizer == 2 * peaks.adapter  # AdamW's two moments of each value


def test_packed_weights_take_four_bits_and_their_scales(job: dict[str, Any]) -> None:
    from bitsandbytes.nn import Linear4bit

    tracer, setting = tracer_of(job, model={"quantization": "nf4"})
    whole, _ = tracer_of(job)
    layers = tracer.config.num_hidden_layers
    model = tracer.model(setting, layers)
    packed = [module for module in model.modules() if isinstance(module, Linear4bit)]
    assert len(packed) == 7 * layers
    numbers = [module.in_features * module.out_features for module in packed]
    scales = [-(-number // 64) for number in numbers]
    expected = sum(
        number // 2 + scale + 4 * -(-scale // 256) + 4 * (256 + 16 + 1)
        for number, scale in zip(numbers, scales, strict=True)
    )
    unpacked = whole.peaks(setting_of(whole.job)).weights - 4 * sum(numbers)
    assert tracer.peaks(setting).weights == unpacked + expected


@pytest.mark.parametrize("checkpointing", [False, True])
def test_three_and_four_layers_tell_of_all(job: dict[str, Any], checkpointing: bool) -> None:
    tracer, setting = tracer_of(job, training={"gradient_checkpointing": checkpointing})
    layers = tracer.config.num_hidden_layers
    assert layers > 4
    assert tracer.peaks(setting).peak == tracer._trace(setting, layers).peak
    assert tracer.peaks(setting).kept == tracer._trace(setting, layers).kept


def test_what_costs_memory_costs_it_in_the_plan(job: dict[str, Any]) -> None:
    tracer, setting = tracer_of(job)
    plain = tracer.total(setting)
    assert tracer.total(replace(setting, micro_batch=2)) > plain
    assert tracer.total(replace(setting, max_length=128)) < plain
    assert tracer.total(replace(setting, checkpointing=True)) < plain
    assert tracer.total(replace(setting, targets=("q_proj",))) < plain
    dora, same = tracer_of(job, lora={"use_dora": True})
    assert dora.total(same) > plain


def test_a_real_step_keeps_what_the_plan_says(job: dict[str, Any], loaded: Any) -> None:
    """Bytes saved for the backward pass by a step with content, beside those of the step without."""
    from mathreason.config import LoraConfig
    from mathreason.training.forward import Forward, _frozen_head, _in_force
    from mathreason.training.last_layer import trimmable
    from mathreason.training.lora import make_lean
    from mathreason.training.tracing import Shape
    from mathreason.training.train import add_lora

    tracer, setting = tracer_of(job)
    model = add_lora(loaded.model, LoraConfig(**job["lora"])).train()
    make_lean(model)
    fixed = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    saved: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in fixed:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    forward = Forward(_frozen_head(model), True, tuple(trimmable(model)))
    shape = Shape(setting.max_length, 1, round(0.6 * setting.max_length))
    with _in_force(model, forward), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = forward.summed_loss(model, shape.batch())
    assert loss.item() > 0
    assert tracer.peaks(setting).kept == pytest.approx(sum(saved.values()), rel=0.03)


def test_the_largest_micro_batch_fits_and_the_next_does_not(job: dict[str, Any]) -> None:
    tracer, setting = tracer_of(job)
    room = tracer.total(replace(setting, micro_batch=4, accumulates=True))
    assert largest_micro_batch(tracer, setting, room) == 4
    assert largest_micro_batch(tracer, setting, room, of=6) == 3
    assert largest_micro_batch(tracer, setting, tracer.beside()) is None


def test_changes_make_a_step_smaller_one_after_the_other(job: dict[str, Any]) -> None:
    tracer, setting = tracer_of(job, training={"micro_batch": 2}, data={"max_length": 512})
    found = list(changes(setting))
    assert [change.what.split(":")[0] for change in found] == [
        "training.micro_batch",
        "training.gradient_checkpointing",
        "model.quantization",
        "data.max_length",
        "lora.target_modules",
    ]
    totals = [tracer.total(setting), *(tracer.total(change.setting) for change in found)]
    assert totals == sorted(totals, reverse=True)


def test_prepared_data_says_what_blocks_hold(finished_run: Any) -> None:
    from mathreason.results import RunDir, read_json

    run = RunDir(finished_run)
    tokens = read_json(run.data)["tokens"]["train"]
    content = content_of(run)
    assert content.known
    assert content.supervised_share == tokens["supervised"] / tokens["total"]
    assert not content_of(None).known
