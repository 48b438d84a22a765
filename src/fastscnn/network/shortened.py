"""The network up to one of its stages, to compare how a converter computes each of them."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from fastscnn.model import architecture
from fastscnn.network.fast_scnn import FastSCNN

_FUSION = "fusion"


def stages() -> dict[str, str]:
    """Return the stages in the order of their computation: name of the submodule -> the part of the paper's network.

    Examples:
        >>> list(stages())[:3], stages()["global_features.9"]
        (['downsample.0', 'downsample.1', 'downsample.2'], 'pyramid pooling')
    """
    found: dict[str, str] = {}
    for layer in architecture.layers():  # the names are the same for every variant
        part, index = layer.name.split(".")[:2]
        found.setdefault(_FUSION if part == _FUSION else f"{part}.{index}", layer.part)
    return found


def shortened(model: FastSCNN, last: str) -> FastSCNN:
    """Return a copy that returns the output of one stage instead of logits.

    The stages after it pass their input on, so that all that is made of a network can be made of this one.

    Args:
        model: the network; it is not changed.
        last: a name in `stages()`.

    Examples:
        >>> import torch
        >>> shortened(FastSCNN(classes=3), "downsample.1")(torch.zeros(1, 64, 96, 3)).shape
        torch.Size([1, 48, 16, 24])
    """
    short, names = copy.deepcopy(model), list(stages())
    for name in names[names.index(last) + 1 :]:
        deep = last.startswith("global_features")
        short.set_submodule(name, _PassOn(int(deep)) if name == _FUSION else nn.Identity())
    return short


class _PassOn(nn.Module):
    """In the place of the feature fusion: returns one of its inputs, the skip connection or the deep features."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self._index = index

    def forward(self, *features: Tensor) -> Tensor:
        return features[self._index]
