"""Counterparts of layers for trials that train together: trained weights carry a leading trial dimension.

Each reads a folded batch, (trials * batch, ...), whose first rows are the first trial's. Weights that are
not trained are shared by all trials and stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from luthier.engine.noise import Noise, drop


def repeated(parameter: nn.Parameter | None, size: int) -> nn.Parameter | None:
    """A trained parameter for each trial, (trials, ...); one that is not trained as it is."""
    if parameter is None or not parameter.requires_grad:
        return parameter
    return nn.Parameter(parameter.detach().expand(size, *parameter.shape).clone())


def products(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """A linear map for each trial, (trials, rows, out), under autocast in its type.

    Args:
        rows: (trials, rows, in).
        weight: (trials, out, in).
        bias: (trials, 1, out), (out,) for all trials, or None.
    """
    kind = rows.device.type
    if torch.is_autocast_enabled(kind):
        lower = torch.get_autocast_dtype(kind)
        rows, weight = rows.to(lower), weight.to(lower)
        bias = None if bias is None else bias.to(lower)
    found: torch.Tensor = _Products.apply(rows, weight, bias)  # type: ignore[no-untyped-call]
    return found


class _Products(torch.autograd.Function):
    """`products`, whose gradient of the weights is laid out as they are.

    torch's own comes transposed, and is copied into place: a tenth of a step of a transformer's block.
    """

    @staticmethod
    def forward(
        ctx: Any, rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        ctx.save_for_backward(rows, weight)
        ctx.shape = None if bias is None else bias.shape
        with torch.autocast(rows.device.type, enabled=False):
            if bias is None:
                return torch.bmm(rows, weight.transpose(1, 2))
            return torch.baddbmm(bias, rows, weight.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, *slopes: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        (slope,) = slopes
        wanted = ctx.needs_input_grad
        return (
            torch.bmm(slope, weight) if wanted[0] else None,
            torch.bmm(slope.transpose(1, 2), rows) if wanted[1] else None,
            slope.sum_to_size(ctx.shape) if wanted[2] else None,
        )


class Stacked(nn.Module):
    """A layer of several trials; its parameters are named as the plain layer's are.

    Args:
        plain: The layer that is replaced.
        size: Number of trials.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(self, plain: nn.Module, size: int) -> None:
        super().__init__()
        self.size = size
        for name, parameter in plain.named_parameters(recurse=False):
            self.register_parameter(name, repeated(parameter, size))
        if getattr(plain, "bias", None) is None:
            self.bias = None

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> nn.Module:
        def apply(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.ndim < 5:
                return fn(tensor)
            # Each trial's kernels are to lie channels last, which torch knows of four dimensions only.
            kernels = tensor.flatten(0, 1)
            moved = fn(kernels)
            same = moved.dtype == tensor.dtype and moved.device == tensor.device
            if same and kernels.is_contiguous(memory_format=torch.channels_last):
                # A copy for nothing, where few channels or pixels can be read both ways. Others look at this
                # memory.
                return tensor
            return moved.view(tensor.shape)

        applied: nn.Module = super()._apply(apply, recurse)  # type: ignore[no-untyped-call]
        return applied

    def split(self, x: torch.Tensor) -> torch.Tensor:
        """(trials, rows, width) from (trials * batch, ..., width)."""
        return x.reshape(self.size, -1, x.shape[-1])

    def per_row(self, parameter: nn.Parameter | None, plain: int) -> torch.Tensor | None:
        """A vector for each trial as (trials, 1, width), or the shared one; None where there is none."""
        return parameter.unsqueeze(1) if parameter is not None and parameter.ndim > plain else parameter


class StackedLinear(Stacked):
    """`nn.Linear`."""

    def __init__(self, plain: nn.Linear, size: int) -> None:
        super().__init__(plain, size)
        self.in_features, self.out_features = plain.in_features, plain.out_features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(trials * batch, ..., out) from (trials * batch, ..., in)."""
        assert self.weight is not None
        rows, bias = self.split(x), self.per_row(self.bias, 1)
        if self.weight.ndim == 2:
            out = F.linear(rows, self.weight)
            out = out if bias is None else out + bias.to(out.dtype)
        else:
            out = products(rows, self.weight, bias)
        return out.view(*x.shape[:-1], -1)


class StackedLayerNorm(Stacked):
    """`nn.LayerNorm` over the last dimension, or over the channels of images."""

    def __init__(self, plain: nn.LayerNorm, size: int) -> None:
        super().__init__(plain, size)
        self.normalized_shape, self.eps = plain.normalized_shape, plain.eps
        # The ConvNeXT kinds' own norms have this.
        self.channels_first = getattr(plain, "data_format", "") == "channels_first"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As ``x``."""
        if self.channels_first:
            return self._normalised(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self._normalised(x)

    def _normalised(self, x: torch.Tensor) -> torch.Tensor:
        out = F.layer_norm(x, self.normalized_shape, eps=self.eps)
        rows, weight, bias = self.split(out), self.per_row(self.weight, 1), self.per_row(self.bias, 1)
        if weight is not None:
            rows = rows * weight if bias is None else torch.addcmul(bias, rows, weight)
        return rows.view(x.shape).to(out.dtype)


class StackedEmbedding(Stacked):
    """`nn.Embedding`; ids that are the same for all trials, (1, length), give rows for all.

    Args:
        plain: The layer that is replaced.
        size: Number of trials.
        rows: Gives the number of rows of the folded batch.
    """

    def __init__(self, plain: nn.Embedding, size: int, folded: Folded) -> None:
        super().__init__(plain, size)
        self.num_embeddings, self.embedding_dim = plain.num_embeddings, plain.embedding_dim
        self.padding_idx = plain.padding_idx
        self.folded = folded

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """(trials * batch, length, width) from (trials * batch, length)."""
        assert self.weight is not None
        if len(ids) == 1:
            ids = ids.expand(self.folded.rows, *ids.shape[1:])
        first = torch.arange(self.size, device=ids.device) * self.num_embeddings
        offsets = first.repeat_interleave(len(ids) // self.size).view(-1, *[1] * (ids.ndim - 1))
        found = F.embedding(ids + offsets, self.weight.flatten(0, 1))
        if self.padding_idx is None:
            return found
        # Padding learns nothing, as in the plain layer, which can name but one row.
        return torch.where((ids == self.padding_idx).unsqueeze(-1), found.detach(), found)


class StackedConv2d(Stacked):
    """`nn.Conv2d` that pads with zeros."""

    def __init__(self, plain: nn.Conv2d, size: int) -> None:
        super().__init__(plain, size)
        # Some bodies work out their own padding from these.
        self.kernel_size, self.stride, self.dilation = plain.kernel_size, plain.stride, plain.dilation
        self.padding, self.groups = plain.padding, plain.groups
        self.in_channels, self.out_channels = plain.in_channels, plain.out_channels
        self.pointwise = (
            plain.groups == 1
            and all(n == 1 for n in (*plain.kernel_size, *plain.stride))
            and plain.padding in (0, (0, 0))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(trials * batch, out, height, width) from (trials * batch, in, height, width)."""
        assert self.weight is not None
        if self.weight.ndim == 4:
            out = F.conv2d(x, self.weight, None, self.stride, self.padding, self.dilation, self.groups)
            return out if self.bias is None else self._biased(out)
        if self.pointwise:
            return self._product(x)
        # One after the other: a grouped convolution over all trials' channels is many times slower on a CPU.
        biases: Sequence[Any] = [self.bias] * self.size
        if self.bias is not None and self.bias.ndim == 2:
            biases = self.bias.unbind()
        parts = [
            F.conv2d(part, weight, bias, self.stride, self.padding, self.dilation, self.groups)
            for part, weight, bias in zip(x.chunk(self.size), self.weight.unbind(), biases, strict=True)
        ]
        return torch.cat(parts)

    def _biased(self, x: torch.Tensor) -> torch.Tensor:
        assert self.bias is not None
        bias = (
            self.bias.repeat_interleave(len(x) // self.size, dim=0)
            if self.bias.ndim == 2
            else self.bias[None]
        )
        return x + bias[:, :, None, None].to(x.dtype)

    def _product(self, x: torch.Tensor) -> torch.Tensor:
        """A convolution of single pixels is a product with channels last."""
        assert self.weight is not None
        rows = self.split(x.permute(0, 2, 3, 1))
        out = products(rows, self.weight.flatten(2), self.per_row(self.bias, 1))
        return out.view(len(x), *x.shape[2:], -1).permute(0, 3, 1, 2)


class StackedBatchNorm2d(Stacked):
    """`nn.BatchNorm2d`: each trial by the statistics of its own rows, and with its own running ones."""

    running_mean: torch.Tensor
    running_var: torch.Tensor
    num_batches_tracked: torch.Tensor

    def __init__(self, plain: nn.BatchNorm2d, size: int) -> None:
        super().__init__(plain, size)
        self.eps, self.momentum = plain.eps, plain.momentum
        for name, buffer in plain.named_buffers(recurse=False):
            self.register_buffer(name, buffer.expand(size, *buffer.shape).clone())

    @property
    def learns(self) -> bool:
        """Whether the scale is trained; otherwise the running statistics hold, as in `Network`."""
        return self.weight is not None and self.weight.requires_grad

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As ``x``."""
        training = self.training and self.learns
        if training:
            self.num_batches_tracked += 1
        parts = []
        for index, part in enumerate(x.chunk(self.size)):
            weight, bias = (
                p[index] if p is not None and p.ndim == 2 else p for p in (self.weight, self.bias)
            )
            momentum = self.momentum
            if momentum is None:
                momentum = 1.0 / max(1.0, float(self.num_batches_tracked[index]))
            parts.append(
                F.batch_norm(
                    part,
                    self.running_mean[index],
                    self.running_var[index],
                    weight,
                    bias,
                    training,
                    momentum,
                    self.eps,
                )
            )
        return torch.cat(parts)


class StackedLora(nn.Module):
    """PEFT's ``lora.Linear``: one frozen layer for all trials, and low-rank updates of each (Hu et al.
    2021, eq. 3).

    Updates of smaller rank than the largest are filled up with zeros, which stay zero: neither half gets a
    gradient from the other's.

    Args:
        plain: PEFT's layer, of the largest rank.
        adapter: Its adapter's name.
        scales: Of the trials: alpha / rank.
        rates: Of the trials: dropout on the input of the updates.
        noise: Their random numbers.
    """

    half: ClassVar[type[Any]] = StackedLinear
    """What both halves of an update are."""

    def __init__(
        self, plain: Any, adapter: str, scales: Sequence[float], rates: Sequence[float], noise: Noise
    ) -> None:
        super().__init__()
        size = len(scales)
        self.size, self.adapter, self.rates, self.noise = size, adapter, list(rates), noise
        self.base_layer = plain.base_layer
        self.lora_A = nn.ModuleDict({adapter: self.half(plain.lora_A[adapter], size)})
        self.lora_B = nn.ModuleDict({adapter: self.half(plain.lora_B[adapter], size)})
        self.register_buffer("scales", torch.tensor(scales, dtype=torch.float64), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(trials * batch, ..., out) from (trials * batch, ..., in)."""
        low = self.lora_A[self.adapter](drop(x, self.rates, self.noise) if self.training else x)
        # Here the update is at its smallest.
        scales = self.get_buffer("scales").to(low.dtype).view(-1, *[1] * low.ndim)
        low = (low.unflatten(0, (self.size, -1)) * scales).flatten(0, 1)
        return self._added(self.base_layer(x), low)

    def _added(self, result: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
        weight = self.lora_B[self.adapter].weight
        assert isinstance(weight, torch.Tensor)
        rows, onto = (each.reshape(self.size, -1, each.shape[-1]) for each in (low, result))
        return torch.baddbmm(onto, rows, weight.transpose(1, 2)).view(result.shape)


class StackedLoraConv2d(StackedLora):
    """PEFT's ``lora.Conv2d``, likewise: a convolution to few channels, and one of single pixels back."""

    half = StackedConv2d

    def _added(self, result: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
        update: torch.Tensor = self.lora_B[self.adapter](low)
        return result + update


class Folded:
    """How many rows the batch has that is on its way through a body; a hook tells it."""

    rows = 0

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A forward pre-hook."""
        self.rows = len(next(value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)))
