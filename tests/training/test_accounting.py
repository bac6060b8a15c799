"""A step's time is shared out without a rest, and its arithmetic is what torch counts."""

import time
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from mathreason.data.packing import block_features
from mathreason.data.prompts import Example
from mathreason.training.accounting import PHASES, Arithmetic, StepTimes, matmul_flops
from mathreason.training.decoder import not_recomputed
from mathreason.training.forward import Forward
from mathreason.training.last_layer import trimmable, trimmed


def test_all_time_but_the_skipped_is_shared_out() -> None:
    times = StepTimes(torch.device("cpu"))
    times.mark("forward")
    times.step_done()  # the first step is left out
    begun = time.perf_counter()
    skipped = 0.0
    for _ in range(3):
        for phase in PHASES[:4]:
            time.sleep(0.002)
            times.mark(phase)
        before = time.perf_counter()
        times.mark("other")
        time.sleep(0.01)
        times.skip()
        skipped += time.perf_counter() - before
        times.step_done()
    whole = time.perf_counter() - begun - skipped
    assert times.steps == 3
    assert all(times.per_step()[phase] >= 0.002 for phase in PHASES[:4])
    assert sum(times.seconds.values()) == pytest.approx(whole, abs=0.005)


def test_before_the_second_step_there_is_nothing_to_say() -> None:
    times = StepTimes(torch.device("cpu"))
    times.mark("data")
    times.step_done()
    assert times.per_step() == {}


@pytest.mark.parametrize("recomputed", [False, True])
@pytest.mark.parametrize("at_loss", [False, True])
def test_flops_are_those_torch_counts(recomputed: bool, at_loss: bool) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        attn_implementation="eager",
    )
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = get_peft_model(
        LlamaForCausalLM(config), LoraConfig(r=4, target_modules=targets, task_type="CAUSAL_LM")
    ).train()
    if recomputed:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    example = Example(ids=[i % 300 for i in range(96)], prompt_tokens=40)
    batch = {name: torch.tensor([values]) for name, values in block_features([example]).items()}
    modules = tuple(trimmable(model)) if at_loss else ()
    with FlopCounterMode(display=False) as counter, trimmed(model) if at_loss else nullcontext():
        Forward(at_loss=modules).summed_loss(model, batch).backward()
    counted = counter.get_total_flops()
    arithmetic = Arithmetic.of(model, modules)
    # eager attention computes the whole square, of which half is masked
    whole_squares = replace(arithmetic, attention=2 * arithmetic.attention)
    # The first layer's projections need no gradient of their input: a few per cent of three layers.
    assert whole_squares.flops([96], 56, recomputed) == pytest.approx(counted, rel=0.04)


def test_a_matrix_product_takes_time() -> None:
    assert 1e8 < matmul_flops(torch.device("cpu"), torch.float32) < 1e14


def test_what_is_not_recomputed_does_not_count_twice() -> None:
    config = LlamaConfig(vocab_size=300, hidden_size=64, intermediate_size=160, num_hidden_layers=3)
    model = get_peft_model(LlamaForCausalLM(config), LoraConfig(r=4, target_modules=["q_proj", "down_proj"]))
    all_of_it, less = Arithmetic.of(model), Arithmetic.of(model, once=not_recomputed(model))
    left_out = 2.0 * 96 * 3 * (160 * 64 + 4 * 64)  # down_proj, and its adapter's B
    assert all_of_it.flops([96], 56, True) - less.flops([96], 56, True) == left_out
    assert all_of_it.flops([96], 56, False) == less.flops([96], 56, False)
