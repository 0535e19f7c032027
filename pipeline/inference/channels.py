"""Pictures and networks with different numbers of channels: grey through a colour network, and the other way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

FloatImage = NDArray[np.float32]


def to_network(colours: FloatImage, channels: int) -> Tensor:
    """Turn a picture without alpha into what a network takes.

    Grey goes into a colour network as equal channels; the channels of a colour picture go into a grey network as
    pictures of their own.

    Args:
        colours: (H, W, C) float32.
        channels: of the network.

    Returns:
        (B, channels, H, W) float32.

    Raises:
        UserError: no rule for these numbers of channels.
    """
    import torch

    count = colours.shape[2]
    planes = torch.from_numpy(np.ascontiguousarray(colours.transpose(2, 0, 1)))
    if count == channels:
        return planes[None]
    if count == 1:
        return planes[None].expand(1, channels, -1, -1)
    if channels == 1:
        return planes[:, None]
    raise UserError(f"model: expected one for 1 or {count} channels, found {channels}")


def from_network(batch: Tensor, colours: int) -> FloatImage:
    """Undo `to_network`: (B, channels, H, W) to (H, W, colours); a grey picture is the mean of its channels."""
    result: FloatImage = batch.reshape(-1, *batch.shape[2:]).cpu().numpy().transpose(1, 2, 0)
    if result.shape[2] != colours:
        result = result.mean(axis=2, keepdims=True)
    return result
