"""One of two ranks: averages gradients in messages of 64 bytes and compares with their mean."""

from __future__ import annotations

import sys

import torch
from torch import nn

from mathreason.training import ranks

DTYPES = torch.float32, torch.bfloat16
SHAPES = {torch.float32: [(4,), (2, 3), (5, 8), (6,)], torch.bfloat16: [(4, 4), (32,)]}


def parameters(rank: int) -> list[nn.Parameter]:
    torch.manual_seed(rank)
    made = []
    for dtype in DTYPES:
        for shape in SHAPES[dtype]:
            parameter = nn.Parameter(torch.zeros(shape, dtype=dtype))
            parameter.grad = torch.randn(shape).to(dtype)
            made.append(parameter)
    made[3].grad = None if rank else made[3].grad  # no part in what this rank computed
    return made


ranks.BUCKET_BYTES = 64
torch.distributed.init_process_group("gloo")
sent: dict[torch.dtype, list[int]] = {dtype: [] for dtype in DTYPES}
reduce = torch.distributed.all_reduce


def noted(tensor: torch.Tensor) -> None:
    sent[tensor.dtype].append(tensor.numel())
    reduce(tensor)


torch.distributed.all_reduce = noted
model = nn.ParameterList(parameters(ranks.rank()))
ranks.average_gradients(model)
for mine, *both in zip(model, parameters(0), parameters(1), strict=True):
    wanted = sum(p.grad for p in both if p.grad is not None) / 2
    assert torch.equal(mine.grad, wanted), (mine.grad, wanted)
if ranks.rank() == 0:
    said = "; ".join(f"{str(dtype).removeprefix('torch.')} {sizes}" for dtype, sizes in sent.items())
    sys.stdout.write(f"{said}\nequal\n")
torch.distributed.destroy_process_group()
