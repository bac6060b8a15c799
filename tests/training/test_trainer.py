"""The loss is the right number: packed or not, accumulated or not; EOS is trained; every adapter learns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from mathreason.config import JobConfig, LoraConfig, PromptConfig
from mathreason.data.generator import generate
from mathreason.data.packing import IGNORED, pack
from mathreason.data.prompts import Example, Prompter
from mathreason.errors import InputError, MathreasonError
from mathreason.progress import Reporter
from mathreason.results import RunDir, read_appended
from mathreason.training import checkpoints
from mathreason.training.batches import Blocks, Collator
from mathreason.training.forward import Forward, prove_packing
from mathreason.training.recovery import Recovery
from mathreason.training.train import _arguments, add_lora, total_steps
from mathreason.training.trainer import MathTrainer
from mathreason.training.watch import prove_learning


@pytest.fixture(scope="module")
def examples(tokenizer: Any) -> list[Example]:
    prompter = Prompter(PromptConfig(), tokenizer)
    return [prompter.encode(problem) for problem in generate("train", count=16, seed=11)]


def batch_of(examples: Sequence[Example], blocks: list[list[int]], pad: int = 2) -> dict[str, torch.Tensor]:
    dataset = Blocks(examples, blocks)
    return Collator(pad)([dataset[i] for i in range(len(dataset))])


def loss_alone(model: Any, example: Example) -> torch.Tensor:
    """Cross-entropy of one completion by the plain forward pass: full logits, causal mask, no packing."""
    ids = torch.tensor([example.ids])
    logits = model(input_ids=ids, use_cache=False).logits[0, :-1]
    targets = ids[0, 1:].clone()
    targets[: example.prompt_tokens - 1] = IGNORED
    return functional.cross_entropy(logits.float(), targets, ignore_index=IGNORED, reduction="sum")


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_loss_equals_the_separate_losses(loaded: Any, examples: list[Example], attention: str) -> None:
    model = loaded.model
    model.set_attn_implementation(attention)
    with torch.no_grad():
        alone = sum(loss_alone(model, example) for example in examples[:7])
        packed = Forward().summed_loss(model, batch_of(examples, [[0, 1, 2], [3], [4, 5, 6]]))
    assert torch.allclose(packed, torch.as_tensor(alone), rtol=1e-5)


def test_packed_gradient_equals_the_separate_gradients(loaded: Any, examples: list[Example]) -> None:
    weight = loaded.model.model.layers[0].self_attn.q_proj.weight
    Forward().summed_loss(loaded.model, batch_of(examples, [[0, 1, 2]])).backward()
    packed = weight.grad.clone()
    loaded.model.zero_grad()
    for example in examples[:3]:
        loss_alone(loaded.model, example).backward()
    assert torch.allclose(packed, weight.grad, rtol=1e-3, atol=1e-5 * packed.abs().max().item())


def test_packing_that_leaks_is_noticed(loaded: Any, examples: list[Example]) -> None:
    prove_packing(loaded.model, Forward(), examples[0], examples[1])

    class Leaking(torch.nn.Module):
        """The model called as it must not be: with a mask of ones, which turns the block mask off."""

        def __init__(self, model: Any) -> None:
            super().__init__()
            self.inner, self.config, self.device = model, model.config, model.device

        def forward(self, input_ids: torch.Tensor, **others: Any) -> Any:
            return self.inner(input_ids=input_ids, attention_mask=torch.ones_like(input_ids), **others)

    with pytest.raises(MathreasonError, match="see each other"):
        prove_packing(Leaking(loaded.model), Forward(), examples[0], examples[1])


def test_attention_mask_beside_packed_blocks_is_refused(loaded: Any, examples: list[Example]) -> None:
    batch = batch_of(examples, [[0, 1]])
    with pytest.raises(MathreasonError, match="attention mask"):
        Forward().summed_loss(loaded.model, {**batch, "attention_mask": torch.ones_like(batch["input_ids"])})


def test_last_trained_label_of_every_sample_is_eos_when_padding_is_eos(
    loaded: Any, examples: list[Example]
) -> None:
    eos = loaded.tokenizer.eos_token_id
    blocks = pack([len(example.ids) for example in examples], 256)
    batch = batch_of(examples, blocks, pad=eos)
    ends = 0
    for labels, positions, length in zip(
        batch["labels"], batch["position_ids"], batch["lengths"], strict=True
    ):
        starts = [i for i in range(int(length)) if positions[i] == 0]
        for start, end in zip(starts, [*starts[1:], int(length)], strict=True):
            trained = labels[start:end][labels[start:end] != IGNORED]
            assert trained[-1] == eos
            assert labels[end - 1] == eos
            ends += 1
        assert (labels[int(length) :] == IGNORED).all()
    assert ends == len(examples)


def trainer_for(
    loaded: Any, tmp_path: Path, job: dict[str, Any], examples: list[Example], **training: Any
) -> MathTrainer:
    config = JobConfig.model_validate({**job, "training": {**job["training"], **training}})
    torch.manual_seed(0)
    model = add_lora(loaded.model, LoraConfig(r=4, alpha=8, dropout=0.0))
    run = RunDir(tmp_path / f"run-{len(list(tmp_path.iterdir()))}")
    run.checkpoints.mkdir(parents=True)
    blocks = [[i] for i in range(len(examples))]
    arguments = _arguments(config, run, loaded, "adamw_torch", len(blocks), validated=False)
    return MathTrainer(
        run=run,
        keep_last=1,
        recovery=Recovery(config, Reporter(quiet=True), loaded.facts["fallbacks"], sharded=False),
        forward=Forward(),
        model=model,
        args=arguments,
        train_dataset=Blocks(examples, blocks),
        data_collator=Collator(loaded.tokenizer.pad_token_id),
    )


def fresh() -> Any:
    from mathreason.config import ModelConfig
    from mathreason.models import load_model

    return load_model(
        ModelConfig(name="embedded", quantization="none", dtype="float32"), Reporter(quiet=True)
    )


def test_batch_of_four_equals_four_accumulated_batches_of_one(
    tmp_path: Path, job: dict[str, Any], examples: list[Example]
) -> None:
    losses = {}
    for micro_batch, accumulation in ((4, 1), (1, 4), (2, 2)):
        trainer = trainer_for(
            fresh(),
            tmp_path,
            job,
            examples,
            micro_batch=micro_batch,
            gradient_accumulation=accumulation,
            max_steps=3,
        )
        trainer.train()
        losses[micro_batch] = [line["loss"] for line in read_appended(trainer.run.log)]
    assert len(losses[4]) == 3
    assert losses[1] == pytest.approx(losses[4], rel=1e-5)
    assert losses[2] == pytest.approx(losses[4], rel=1e-5)
    # The examples have different numbers of supervised tokens, so a mean of means would be another number.
    assert len({len(e.ids) - e.prompt_tokens for e in examples[:4]}) > 1


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_after_one_step_every_lora_b_has_changed_with_gradient_checkpointing(
    tmp_path: Path, job: dict[str, Any], examples: list[Example], quantization: str
) -> None:
    from mathreason.config import ModelConfig
    from mathreason.models import load_model

    loaded = load_model(ModelConfig(name="embedded", quantization=quantization), Reporter(quiet=True))  # type: ignore[arg-type]
    assert loaded.facts["quantization"] == quantization
    trainer = trainer_for(
        loaded, tmp_path, job, examples, max_steps=1, gradient_checkpointing=True, warmup_ratio=0.0
    )
    before = {n: p.detach().clone() for n, p in trainer.model.named_parameters() if p.requires_grad}
    trainer.train()
    changed = {
        n for n, p in trainer.model.named_parameters() if n in before and not torch.equal(p, before[n])
    }
    lora_b = {name for name in before if "lora_B" in name}
    assert len(lora_b) == 7 * loaded.model.config.num_hidden_layers
    assert lora_b <= changed
    prove_learning(trainer.model)


def test_validation_does_not_stop_the_gradient_of_4_bit_weights(
    tmp_path: Path, job: dict[str, Any], examples: list[Example]
) -> None:
    from mathreason.config import ModelConfig
    from mathreason.models import load_model

    loaded = load_model(ModelConfig(name="embedded", quantization="nf4"), Reporter(quiet=True))
    trainer = trainer_for(loaded, tmp_path, job, examples, max_steps=1, warmup_ratio=0.0)
    trainer.evaluate(Blocks(examples, [[0, 1]]))
    prove_packing(trainer.model, Forward(), examples[0], examples[1])
    trainer.train()
    prove_learning(trainer.model)


def test_packing_is_proven_on_the_model_as_the_engine_prepared_it(
    loaded: Any, tmp_path: Path, job: dict[str, Any], examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_for(loaded, tmp_path, job, examples, max_steps=1)
    prepare, asked = trainer.accelerator.prepare, []

    class Wrapped(torch.nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.module = model

    def wrapping(*objects: Any, **options: Any) -> Any:
        prepared = prepare(*objects, **options)
        trainer.model = Wrapped(trainer.model)  # what transformers does itself under FSDP
        return prepared

    def ask(model: Any) -> None:
        asked.append(model)
        raise MathreasonError("enough")

    monkeypatch.setattr(trainer.accelerator, "prepare", wrapping)
    trainer.watch.proof = ask
    with pytest.raises(MathreasonError, match="enough"):
        trainer.train()
    assert [type(model) for model in asked] == [Wrapped]


def test_adapter_that_gets_no_gradient_is_noticed(loaded: Any) -> None:
    model = add_lora(loaded.model, LoraConfig())
    with pytest.raises(MathreasonError, match="no gradient reaches 35 adapter layers"):
        prove_learning(model)


def test_target_that_the_model_lacks_is_refused(loaded: Any) -> None:
    with pytest.raises(InputError, match="no layer named w1_proj"):
        add_lora(loaded.model, LoraConfig(target_modules=["q_proj", "w1_proj"]))


def test_diverging_loss_stops_with_a_sentence(
    loaded: Any, tmp_path: Path, job: dict[str, Any], examples: list[Example]
) -> None:
    trainer = trainer_for(loaded, tmp_path, job, examples, max_steps=2)
    with torch.no_grad():
        next(p for n, p in trainer.model.named_parameters() if "lora_B" in n).fill_(float("nan"))
    with pytest.raises(
        MathreasonError, match=r"training diverged: the loss of step 1 is nan; .* example \d+ "
    ):
        trainer.train()
    [line] = read_appended(trainer.run.log)
    assert line["step"] == 1
    assert len(line["problem_ids"]) == 1  # micro-batch 1, one block of one example
    assert not (trainer.run.checkpoints / "checkpoint-1").exists()


def test_a_gradient_that_is_no_number_stops_before_it_reaches_the_weights(
    loaded: Any, tmp_path: Path, job: dict[str, Any], examples: list[Example]
) -> None:
    trainer = trainer_for(loaded, tmp_path, job, examples, max_steps=2)
    weight = next(p for n, p in trainer.model.named_parameters() if "lora_B" in n)
    weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(MathreasonError, match=r"the gradient norm of step 1 is inf; .* example \d+ "):
        trainer.train()
    assert all(p.isfinite().all() for p in trainer.model.parameters())
    [line] = read_appended(trainer.run.log)
    assert len(line["problem_ids"]) == 1


def scaled(trainer: MathTrainer, scale: float) -> MathTrainer:
    """As float16 trains, with a scaler that begins at `scale`."""
    trainer.args.fp16 = True
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    return trainer


def test_steps_that_float16_skips_are_said_and_are_no_dead_adapter(
    loaded: Any, tmp_path: Path, job: dict[str, Any], examples: list[Example]
) -> None:
    trainer = trainer_for(loaded, tmp_path, job, examples, max_steps=8, logging_steps=1)
    weight = next(p for n, p in trainer.model.named_parameters() if "lora_B" in n)
    weight.register_hook(lambda gradient: gradient * (float("inf") if trainer.state.global_step < 3 else 1.0))
    scaled(trainer, 2.0**16).train()
    norms = [line["gradient_norm"] for line in read_appended(trainer.run.log)]
    assert norms[:3] == [None] * 3
    assert all(norm > 0 for norm in norms[3:])
    assert len(norms) == 8
    said = "3 of 8 optimizer steps changed nothing: gradients too large for float16"
    assert loaded.facts["fallbacks"][-1] == said


@pytest.mark.parametrize(("steps", "ends_at"), [(200, 32), (5, 5)])
def test_float16_that_never_takes_a_step_is_a_failure_with_the_problems(
    loaded: Any, tmp_path: Path, job: dict[str, Any], examples: list[Example], steps: int, ends_at: int
) -> None:
    trainer = trainer_for(loaded, tmp_path, job, examples, max_steps=steps)
    weight = next(p for n, p in trainer.model.named_parameters() if "lora_B" in n)
    weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(
        MathreasonError, match=rf"the gradients of the last {ends_at} steps were no numbers in float16, .*"
    ):
        scaled(trainer, 1.0).train()
    line = read_appended(trainer.run.log)[-1]
    assert (line["step"], len(line["problem_ids"])) == (ends_at, 1)


def test_validation_loss_is_the_mean_over_tokens(
    loaded: Any, tmp_path: Path, job: dict[str, Any], examples: list[Example]
) -> None:
    trainer = trainer_for(loaded, tmp_path, job, examples)
    metrics = trainer.evaluate(Blocks(examples, [[0, 1], [2], [3, 4, 5]]))
    with torch.no_grad():
        total = sum(loss_alone(loaded.model, example).item() for example in examples[:6])
    tokens = sum(len(e.ids) - e.prompt_tokens for e in examples[:6])
    assert metrics["validation_loss"] == pytest.approx(total / tokens, rel=1e-5)


def test_checkpoint_appears_whole_with_its_manifest(
    loaded: Any, tmp_path: Path, job: dict[str, Any], examples: list[Example]
) -> None:
    trainer = trainer_for(loaded, tmp_path, job, examples, max_steps=4, checkpoint_steps=2)
    trainer.train()
    complete, torn = checkpoints.complete_checkpoints(trainer.run.checkpoints)
    assert [checkpoints.step_of(path) for path in complete] == [4]  # keep_last is 1
    assert torn == []


def test_steps_follow_from_blocks_and_epochs(job: dict[str, Any]) -> None:
    def steps(blocks: int, **training: Any) -> int:
        values = {**job["training"], "max_steps": None, **training}
        return total_steps(JobConfig.model_validate({**job, "training": values}), blocks)

    assert steps(100, micro_batch=4, gradient_accumulation=8, epochs=2.0) == 8
    assert steps(100, micro_batch=1, gradient_accumulation=8, epochs=1.0) == 13
    assert steps(3, micro_batch=4, gradient_accumulation=8, epochs=0.1) == 1
    assert steps(100, max_steps=7) == 7
