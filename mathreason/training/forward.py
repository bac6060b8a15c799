"""One forward pass to the loss: only what training needs is computed, and proven to be the same.

    with forward_of(model, example) as forward:       # for as long as the model trains
        loss = forward.summed_loss(model, batch)      # batch: input_ids, labels, position_ids [rows, tokens]

Everywhere: logits only before a label. With a frozen head: these logits in chunks, never all at once
(`loss`). Each sequence attended by itself (`attention`) and the last layer only before a label
(`last_layer`), with the blocks of a micro-batch one after the other in a single row, without padding; with
the flash-attn package its attention, which wants the same row. On a GPU a layer of the common kind in one
step of autograd (`decoder`). What a model does not allow (a head that is trained or split over ranks, logits
that are capped, attention of its own or with a window shorter than an example) is left out.

In 16 bit on a CPU each product of a shape that was not there before costs milliseconds (oneDNN writes its
program), so a row is filled up to a multiple of 64 tokens, after its last sequence, where nobody looks.

Batches stay in main memory: what to compute is worked out there, so that a GPU is never waited for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mathreason.data.packing import IGNORED, block_features
from mathreason.data.prompts import Example
from mathreason.errors import MathreasonError
from mathreason.models import attention_window
from mathreason.training.attention import can_attend, packed_attention, sequence_keywords, to_device
from mathreason.training.decoder import can_serve, whole_layers
from mathreason.training.last_layer import trimmable, trimmed
from mathreason.training.loss import cross_entropy, linear_cross_entropy

Batch = dict[str, Tensor]
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 5e-3}
"""Largest relative difference of a loss that is rounding."""

MULTIPLE = 64
"""Of a row's tokens, and of those whose logits are read, where shapes that come again are quicker."""

AFTER_THE_HEAD = (
    "final_logit_softcapping",
    "logit_scale",
    "logits_scaling",
    "output_multiplier",
    "lm_head_multiplier",
)
"""Settings by which models change logits after the head: Gemma 2, Cohere, Granite, Falcon-H1."""


@dataclass(frozen=True)
class Forward:
    """How the loss of a model is computed; `head` is the frozen head whose logits are never all there."""

    head: nn.Linear | None = None
    by_sequence: bool = False
    at_loss: tuple[nn.Module, ...] = ()
    """Modules of the last layer that compute only what the loss is read from."""
    varlen: bool = False
    """The model's own attention tells sequences apart by position ids, but only in a single row."""
    whole: bool = False
    """Each layer is one step of autograd."""
    multiple: int = 1
    """Of tokens in a row that is attended by sequence."""

    @property
    def facts(self) -> dict[str, str]:
        """For train.json."""
        return {
            "attention": "each sequence by itself" if self.by_sequence else "the model's, by position ids",
            "last layer": "before labels only" if self.at_loss else "at all tokens",
            "loss": "in chunks of positions, frozen head" if self.head else "all supervised logits at once",
            "layers": "one step each" if self.whole else "the model's",
        }

    def summed_loss(self, model: Any, batch: Batch) -> Tensor:
        """Cross-entropy in nats summed over the labels of `batch`, which the token before each predicts.

        `batch` holds input_ids, labels and position_ids of shape [rows, tokens], and lengths [rows] where
        shorter rows are padded at their end.
        """
        if "attention_mask" in batch:
            raise MathreasonError("packed blocks and an attention mask exclude each other")
        if self.by_sequence or self.varlen:
            batch = _filled_up(_in_one_row(batch), self.multiple)
        device = model.device
        targets = batch["labels"][:, 1:]
        kept = _positions(targets, self.multiple if self.at_loss else 1)
        wanted = targets[:, kept].flatten()
        supervised = (wanted != IGNORED).nonzero().squeeze(-1)
        kept = to_device(kept, device)
        with self._hidden_states():
            output = model(
                input_ids=to_device(batch["input_ids"], device),
                position_ids=to_device(batch["position_ids"], device),
                use_cache=False,
                logits_to_keep=kept,
                **self.keywords(batch["position_ids"], device),
                **({"supervised": kept} if self.at_loss else {}),
            ).logits
        output = output.flatten(0, 1)
        if len(supervised) < len(wanted):
            output, wanted = output[to_device(supervised, device)], wanted[supervised]
        wanted = to_device(wanted, device)
        if self.head is None:
            return cross_entropy(output, wanted)
        # Mixed precision hands hidden states out in float32, whatever the head's dtype.
        return linear_cross_entropy(output.to(self.head.weight.dtype), self.head.weight, wanted)

    def keywords(self, position_ids: Tensor, device: torch.device) -> dict[str, Any]:
        """What the attention layers of a model on `device` need beside the position ids [rows, tokens]."""
        if not self.by_sequence:
            return {}
        starts = (position_ids[0] == 0).nonzero().flatten().tolist()
        ends = [*starts[1:], position_ids.shape[1]]
        return sequence_keywords([end - start for start, end in zip(starts, ends, strict=True)], device)

    @contextmanager
    def _hidden_states(self) -> Iterator[None]:
        """Let the head pass on what it is given, so that `logits` are the hidden states before it."""
        if self.head is None:
            yield
            return
        self.head.forward = _unchanged  # type: ignore[method-assign,assignment]
        try:
            yield
        finally:
            del self.head.forward


def _in_one_row(batch: Batch) -> Batch:
    """The rows one after the other, without their padding."""
    if len(batch["input_ids"]) == 1:
        return batch
    lengths = batch["lengths"].tolist()
    return {
        name: torch.cat([row[:length] for row, length in zip(batch[name], lengths, strict=True)])[None]
        for name in ("input_ids", "labels", "position_ids")
    }


def _filled_up(batch: Batch, multiple: int) -> Batch:
    """One row with tokens without a label after its last sequence, which no token before them attends to."""
    missing = -batch["input_ids"].shape[1] % multiple
    fillers = {"input_ids": 0, "labels": IGNORED, "position_ids": 1}  # a 0 would begin another sequence
    return {name: functional.pad(batch[name], (0, missing), value=fill) for name, fill in fillers.items()}


def _positions(targets: Tensor, multiple: int) -> Tensor:
    """Where a row of `targets` [rows, tokens] has a label, and as many others as make up a multiple."""
    labelled = (targets != IGNORED).any(dim=0)
    kept, others = labelled.nonzero().squeeze(-1), (~labelled).nonzero().squeeze(-1)
    return torch.cat([kept, others[: -len(kept) % multiple]]).sort().values


def sequence_lengths(batch: Batch) -> list[int]:
    """Tokens of each sequence in the blocks of `batch`, without padding; position ids begin at 0 in each."""
    found: list[int] = []
    for positions, length in zip(batch["position_ids"], batch["lengths"].tolist(), strict=True):
        starts = (positions[:length] == 0).nonzero().flatten().tolist()
        found += [end - start for start, end in zip(starts, [*starts[1:], length], strict=True)]
    return found


def _unchanged(hidden: Tensor) -> Tensor:
    return hidden


def multiple_of(dtype: torch.dtype) -> int:
    """Of tokens in a row, on a CPU: MKL, which multiplies in 32 bit, has nothing to prepare for a shape."""
    return MULTIPLE if dtype.itemsize == 2 else 1


def plain_forward(model: Any) -> Forward:
    """The model's own forward pass, in the only way in which it keeps packed examples apart."""
    return Forward(varlen=model.config._attn_implementation == "flash_attention_2")


@contextmanager
def forward_of(model: Any, example: Example, longest: int) -> Iterator[Forward]:
    """The leanest forward pass that gives the plain loss of `example`, which is in force until the end.

    `longest` is the tokens of the longest example there will be: each is attended by itself only where none
    is longer than what the model lets a token see.
    """
    plain = plain_forward(model)
    expected = _loss_of(model, plain, example)
    window = attention_window(model.config)
    by_sequence = (window is None or longest <= window) and can_attend(model)
    lean = replace(plain, head=_frozen_head(model), by_sequence=by_sequence)
    if by_sequence and model.device.type == "cpu":
        lean = replace(lean, multiple=multiple_of(model.dtype))
    trimmed_last = replace(lean, at_loss=tuple(trimmable(model)) if by_sequence else ())
    whole = replace(lean, whole=True) if by_sequence and can_serve(model) else trimmed_last
    for forward in dict.fromkeys((whole, trimmed_last, lean, replace(lean, head=None), plain)):
        with _in_force(model, forward):
            found = expected if forward == plain else _loss_of(model, forward, example)
            if abs(found - expected) <= TOLERANCE.get(model.dtype, 1e-4) * abs(expected):
                yield forward
                return


@contextmanager
def _in_force(model: Any, forward: Forward, kernels: Any = None) -> Iterator[None]:
    with ExitStack() as stack:
        if forward.by_sequence:
            stack.enter_context(packed_attention(model))
        if forward.whole:
            stack.enter_context(whole_layers(model, kernels))
        if forward.at_loss:
            stack.enter_context(trimmed(model))
        yield


def _loss_of(model: Any, forward: Forward, example: Example) -> float:
    features = block_features([example])
    batch = {name: torch.tensor([values]) for name, values in features.items()}
    was_training = model.training
    model.eval()
    with torch.no_grad():
        loss = forward.summed_loss(model, batch).item()
    model.train(was_training)
    return loss


def _frozen_head(model: Any) -> nn.Linear | None:
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear or head.bias is not None or head.weight.requires_grad:
        return None
    if any(getattr(model.config, name, None) not in (None, 1, 1.0) for name in AFTER_THE_HEAD):
        return None
    # DeepSpeed's ZeRO-3 leaves a rank only its part of a weight outside of the layer's own forward pass.
    return None if hasattr(head.weight, "ds_id") else head


def prove_packing(model: Any, forward: Forward, first: Example, second: Example) -> None:
    """Show that in a block of two examples the second cannot see the first; MathreasonError if it does.

    The first example's tokens are exchanged for others. With the block-diagonal mask their weight in the
    second example's attention is exactly zero, so its logits stay the same.
    """
    features = block_features([first, second])
    other = [(token + 1) % model.config.vocab_size for token in first.ids]
    positions = torch.tensor([features["position_ids"]])
    logits = []
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for ids in (features["input_ids"], other + second.ids):
            logits.append(
                model(
                    input_ids=torch.tensor([ids], device=model.device),
                    position_ids=positions.to(model.device),
                    use_cache=False,
                    logits_to_keep=torch.arange(len(first.ids), len(ids), device=model.device),
                    **forward.keywords(positions, model.device),
                ).logits.float()
            )
    model.train(was_training)
    difference = (logits[0] - logits[1]).abs().max().item()
    if not difference <= 1e-4 * max(1.0, logits[0].abs().max().item()):
        raise MathreasonError(
            f"packing is not safe with this model and attention '{model.config._attn_implementation}': "
            f"examples of one block see each other (logits differ by {difference:.3g}). "
            "Set training.packing: false."
        )
