"""One pass of a Swin block in the visible-token form of ``visible``, forward and backward, over a chunk of windows.

Letters: M = n * T tokens of a chunk, V visible ones, S slots a window, D channels of h heads of d. A pass works in
buffers that are used again for the next chunk and so stay in the cache. The backward pass computes the chunk again
from the input of the block: as fast as writing and reading what autograd would keep, in a small part of its memory.
"""

import threading
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear

from .visible import VisibleWindows
from .visible_weights import BlockLayers, BlockWeights

# Softmax subtracts the largest exponent first. Here nothing is subtracted but the logit of a hidden key, so sums of
# weights can leave the range of float32. Sums in this one are exact: what is lost in them is below their rounding.
_LARGEST = 1e30

_LAYER_NORM_EPSILON = 1e-5


class OutOfRangeError(ArithmeticError):
    """The logits of this input need an attention that subtracts the largest one first."""


class _Buffers(threading.local):
    """Memory that passes over chunks share; each thread has its own."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, torch.dtype], Tensor] = {}

    def __call__(self, name: str, dtype: torch.dtype, *shape: int) -> Tensor:
        """A tensor of this shape with anything in it, valid until the next call with this name."""
        size = 1
        for length in shape:
            size *= length
        buffer = self.kept.get((name, dtype))
        if buffer is None or buffer.numel() < size:
            with torch.inference_mode(False):
                buffer = torch.empty(size, dtype=dtype)
            self.kept[name, dtype] = buffer
        return buffer[:size].view(shape)


_buffer = _Buffers()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk of windows that share a shift mask."""

    place: Tensor
    """(M,) the rows of its tokens."""

    windows: VisibleWindows
    """Which of them are visible."""

    kind: int
    """Number of the shift mask."""

    keep: Tensor | None
    """(M, 2) stochastic-depth factors; None for 1."""


class Pass:
    """One chunk: ``forward``, and ``backward`` from what it left behind."""

    def __init__(self, layer: BlockLayers, chunk: Chunk, length: int) -> None:
        self.layer, self.chunk = layer, chunk
        self.tokens = len(chunk.place)
        self.count = self.tokens // length
        self.length = length

    def forward(self, flat: Tensor, out: Tensor, *, last: bool = True) -> None:
        """Write the output of the block to ``out`` (M, D); with ``last`` False without its last product."""
        layer, weights = self.layer, self.layer.weights
        dim = flat.shape[1]
        torch.index_select(flat, 0, self.chunk.place, out=out)
        self._attend(out)
        self._add(out, self.attended.t(), layer.output, layer.output_bias, 0)
        self.middle = out
        norm, self.mean2, self.scale2 = torch.native_layer_norm(
            out, (dim,), weights.norm2, weights.shift2, _LAYER_NORM_EPSILON
        )
        self.low2 = norm.to(layer.dtype)
        self.hidden = hidden = _linear("summed" if last else "hidden", self.low2, layer.fc1, layer.fc1_bias)
        if last:
            torch.ops.aten.gelu_(hidden)
            self._add(out, hidden, layer.fc2, layer.fc2_bias, 1)
        else:
            self.active = torch.ops.aten.gelu.out(hidden, out=_buffer("active", layer.dtype, *hidden.shape))

    def _add(self, out: Tensor, left: Tensor, weight: Tensor, bias: Tensor, branch: int) -> None:
        """``out += keep * (left @ weight.T + bias)``."""
        keep = self.chunk.keep
        if keep is None and out.dtype == weight.dtype:
            out.add_(bias).addmm_(left, weight.t())
            return
        product = _linear("product", left, weight, bias).to(out.dtype)
        if keep is None:
            out.add_(product)
        else:
            out.addcmul_(product, keep[:, branch : branch + 1])

    def _attend(self, part: Tensor) -> None:
        """Attention of all tokens, without output projection: (D, M), heads one below the other."""
        layer, windows = self.layer, self.chunk.windows
        weights, heads, dim = layer.weights, layer.heads, part.shape[1]
        depth, wide, shown = dim // heads, dim // heads + 1, len(windows.visible)
        self.shown = part.index_select(0, windows.visible)
        norm, self.mean1, self.scale1 = torch.native_layer_norm(
            self.shown, (dim,), weights.norm1, weights.shift1, _LAYER_NORM_EPSILON
        )
        # In float32: products with a number of rows of their own each time are not worth a shorter type, whose kernels
        # are compiled for a shape.
        rows = torch.mm(norm, weights.projection.t()).add_(weights.projection_bias)
        self.norm1 = norm
        queries, keys, values, exponents = torch.split(rows, [dim, dim, heads * wide, heads], dim=1)
        self.values = values.view(shown, heads, wide)
        self.weight = exponents.exp()[..., None]

        # Rows of a head: value, sum of weights, sum over hidden keys. Hidden tokens have value 0 and weight 1.
        summed = _buffer("summed", layer.dtype, heads, wide + 1, self.tokens)
        summed[:, :depth] = 0
        summed[:, depth:] = 1
        columns = summed.permute(2, 0, 1)
        columns[:, :, :wide].index_put_((windows.visible,), (self.values * self.weight).to(layer.dtype))
        summed[:, wide].index_fill_(1, windows.visible, 0)
        self.summed = summed.view(heads, -1, self.length)
        products = torch.bmm(
            self.summed, layer.products[self.chunk.kind], out=_buffer("sums", layer.dtype, *self.summed.shape)
        ).view(summed.shape)
        self.divisor = products[:, depth : depth + 1]
        attended = _buffer("attended", layer.dtype, heads, depth, self.tokens)
        torch.div(products[:, :depth], self.divisor, out=attended)
        self.attended = attended.view(dim, self.tokens)

        _check(self.divisor)
        if shown:
            hidden_sum = products[:, wide].index_select(1, windows.visible).t()[..., None]
            self._attend_visible(queries, keys, values, hidden_sum)
            _check(self.visible_divisor)
            self.attended.t().index_put_((windows.visible,), self.result.view(shown, dim).to(layer.dtype))

    def _attend_visible(self, queries: Tensor, keys: Tensor, values: Tensor, hidden_sum: Tensor) -> None:
        """Attention of visible queries to visible keys and, through ``hidden_sum`` (V, h, 1), to hidden ones."""
        layer, windows, heads = self.layer, self.chunk.windows, self.layer.heads
        self.query, self.key, self.value = (
            part.index_select(0, windows.slots).view(self.count, -1, heads, size).transpose(1, 2).contiguous()
            for part, size in ((part, part.shape[1] // heads) for part in (queries, keys, values))
        )
        logits = self.query @ self.key.transpose(2, 3)
        pairs = layer.padded[self.chunk.kind].index_select(0, windows.pairs)
        pairs = pairs.view(self.count, *logits.shape[2:], heads).permute(0, 3, 1, 2)
        self.share = logits.exp_().mul_(pairs)
        sums = (self.share @ self.value).transpose(1, 2).flatten(0, 1).index_select(0, windows.filled)
        self.visible_divisor = sums[..., -1:] + hidden_sum
        self.result = sums[..., :-1] / self.visible_divisor

    def backward(self, flat: Tensor, gradient: Tensor, totals: BlockWeights) -> Tensor:
        """Gradient (M, D) for the tokens, from that of the output (M, D); adds those of the weights to ``totals``."""
        layer, weights, keep = self.layer, self.layer.weights, self.chunk.keep
        dim = flat.shape[1]
        self.forward(flat, _buffer("tokens", flat.dtype, self.tokens, dim), last=False)

        branch = (gradient if keep is None else gradient * keep[:, 1:]).to(layer.dtype)
        totals.fc2_bias.add_(branch.sum(0))
        totals.fc2.add_(branch.t() @ self.active)
        inner = torch.ops.aten.gelu_backward(branch @ layer.fc2, self.hidden)
        totals.fc1_bias.add_(inner.sum(0))
        totals.fc1.add_(inner.t() @ self.low2)
        normed, scale, shift = torch.ops.aten.native_layer_norm_backward(
            (inner @ layer.fc1).to(flat.dtype), self.middle, (dim,), self.mean2, self.scale2,
            weights.norm2, weights.shift2, (True, True, True),
        )  # fmt: skip
        totals.norm2.add_(scale)
        totals.shift2.add_(shift)
        gradient = gradient + normed

        branch = (gradient if keep is None else gradient * keep[:, :1]).to(layer.dtype)
        totals.output_bias.add_(branch.sum(0))
        totals.output.add_((self.attended @ branch).t())
        attended = torch.mm(layer.output.t(), branch.t(), out=_buffer("attended'", layer.dtype, dim, self.tokens))
        rows = self._attend_backward(attended, totals)
        totals.projection_bias.add_(rows.sum(0))
        totals.projection.add_(rows.t() @ self.norm1)
        normed, scale, shift = torch.ops.aten.native_layer_norm_backward(
            rows @ weights.projection, self.shown, (dim,), self.mean1, self.scale1,
            weights.norm1, weights.shift1, (True, True, True),
        )  # fmt: skip
        totals.norm1.add_(scale)
        totals.shift1.add_(shift)
        visible = self.chunk.windows.visible
        return gradient.index_put_((visible,), gradient.index_select(0, visible) + normed)

    def _attend_backward(self, attended: Tensor, totals: BlockWeights) -> Tensor:
        """Gradient (V, 3 * D + 2 * h) of the projected rows, from that (D, M) of ``attended``, which is changed."""
        layer, windows = self.layer, self.chunk.windows
        heads, dim = layer.heads, len(attended)
        depth, wide, shown = dim // heads, dim // heads + 1, len(windows.visible)
        products = _buffer("sums'", layer.dtype, heads, wide + 1, self.tokens)
        products[:, wide] = 0
        rows: list[Tensor] = []
        if shown:
            columns = attended.t()
            result = columns.index_select(0, windows.visible).float().view(shown, heads, depth)
            columns.index_put_((windows.visible,), attended.new_zeros(()))
            rows, hidden_sum = self._visible_backward(result, totals.position_bias)
            products[:, wide].t().index_put_((windows.visible,), hidden_sum.to(layer.dtype))

        # attended = products / divisor, products = summed @ E
        numerator = products[:, :depth]
        torch.div(attended.view(heads, depth, -1), self.divisor, out=numerator)
        torch.sum(numerator * self.attended.view(heads, depth, -1), 1, out=products[:, depth]).neg_()
        flat = products.view(heads, -1, self.length)
        from_key = (self.summed.transpose(1, 2) @ flat).transpose(1, 2)
        totals.position_bias.add_(from_key * layer.pairs[self.chunk.kind])
        if not shown:
            return attended.new_zeros(0, len(layer.weights.projection), dtype=torch.float32)
        summed = torch.bmm(
            flat, layer.products[self.chunk.kind].transpose(1, 2), out=_buffer("summed'", layer.dtype, *flat.shape)
        ).view(products.shape)
        weighted = summed.permute(2, 0, 1).index_select(0, windows.visible)[:, :, :wide].float()
        exponents = (weighted * self.values).sum(2) * self.weight[..., 0]
        query, key, value = rows
        return torch.cat([query, key, value + (weighted * self.weight).flatten(1), exponents], dim=1)

    def _visible_backward(self, result: Tensor, position_bias: Tensor) -> tuple[list[Tensor], Tensor]:
        """Gradients of (query, key, value) of visible tokens and (V, h) of their sums over hidden keys."""
        layer, windows = self.layer, self.chunk.windows
        divided = result / self.visible_divisor
        hidden_sum = -(divided * self.result).sum(2)
        slots = torch.zeros(len(windows.slots), layer.heads, self.value.shape[3])
        slots[windows.filled] = torch.cat([divided, hidden_sum[..., None]], dim=2)
        sums = slots.view(self.count, -1, *slots.shape[1:]).transpose(1, 2)
        value = self.share.transpose(2, 3) @ sums
        logits = (sums @ self.value.transpose(2, 3)).mul_(self.share)
        padded = torch.zeros(layer.padded.shape[1:])
        padded.index_add_(0, windows.pairs, logits.permute(0, 2, 3, 1).flatten(0, 2))
        square = padded.view(self.length + 1, self.length + 1, layer.heads)[: self.length, : self.length]
        position_bias.add_(square.permute(2, 0, 1))
        gradients = [
            part.transpose(1, 2).flatten(2).flatten(0, 1).index_select(0, windows.filled)
            for part in (logits @ self.key, logits.transpose(2, 3) @ self.query, value)
        ]
        return gradients, hidden_sum


def _linear(name: str, left: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear layer, in a buffer where that is faster."""
    if weight.dtype == torch.float32:
        # `linear` copies the bias to all rows first, which costs more than adding it behind.
        return torch.mm(left, weight.t(), out=_buffer(name, weight.dtype, len(left), len(weight))).add_(bias)
    return linear(left, weight, bias)  # adding a row to a bfloat16 matrix is ten times slower than fusing it


def _check(divisor: Tensor) -> None:
    """Raise unless the sums of weights are finite and far from zero."""
    low, high = divisor.aminmax()
    if not (float(low) >= 1 / _LARGEST and float(high) <= _LARGEST):  # also for NaN
        raise OutOfRangeError
