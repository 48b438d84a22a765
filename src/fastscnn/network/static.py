"""The network for one input size: the form that converters for phones and embedded processors need.

Every operator has a counterpart in those formats, with constant shapes. The pyramid pooling is one fully connected layer,
whose weights can be quantised per bin. Quantised with one scale, the averages over many pixels would be lost: CamVid lost
2 points of mIoU.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastscnn.model import architecture
from fastscnn.model.architecture import DEEP_STRIDE, PPM_BINS
from fastscnn.network.fast_scnn import FastSCNN, PyramidPooling, resize
from fastscnn.network.fuse import bins_matrix, folded


class StaticNetwork(nn.Module):
    """The same function as `model` in evaluation mode, up to rounding, for batch 1 and one input size.

    Args:
        model: the network; it is not changed.
        size: (height, width) of the input.
        labels: (height, width) of the labels to return instead of logits; None: return logits.
        channels_last: the layout of input and logits: [1, H, W, C] if true, else [1, C, H, W].

    Examples:
        >>> import torch
        >>> network = StaticNetwork(FastSCNN(classes=3), (64, 96))
        >>> network(torch.zeros(1, 3, 64, 96)).shape
        torch.Size([1, 3, 8, 12])
    """

    mean: Tensor

    def __init__(
        self,
        model: FastSCNN,
        size: tuple[int, int],
        labels: tuple[int, int] | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        plain = folded(model)
        mean = plain.mean.detach().clone()
        self.register_buffer("mean", mean if channels_last else mean[:, None, None])
        self._labels, self._channels_last = labels, channels_last
        self.downsample, self.fusion, self.classifier = plain.downsample, plain.fusion, plain.classifier
        *blocks, pooling = plain.global_features
        if isinstance(pooling, PyramidPooling):  # otherwise, the network is shortened
            pooling = _StaticPooling(pooling, architecture.reduced(size, DEEP_STRIDE))
        self.global_features = nn.Sequential(*blocks, pooling)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Return class logits or labels.

        Args:
            images: uint8, or float32 with the same 0 to 255 range; [1, H, W, channels] with `channels_last`, else
                [1, channels, H, W].

        Returns:
            Logits float32 [1, H/8, W/8, classes] with `channels_last`, else [1, classes, H/8, W/8]; or labels int32 [1, H, W].
        """
        x = images.float() - self.mean
        if self._channels_last:
            x = x.permute(0, 3, 1, 2)
        skip = self.downsample(x)
        logits: Tensor = self.classifier(self.fusion(skip, self.global_features(skip)))
        if self._labels:
            logits = F.interpolate(logits, size=self._labels, mode="bilinear", align_corners=False)
        if self._channels_last:
            logits = logits.permute(0, 2, 3, 1)
        return logits.argmax(3 if self._channels_last else 1).int() if self._labels else logits


class _StaticPooling(nn.Module):
    """`PyramidPooling` for deep features of one size (rows, columns)."""

    matrix: Tensor

    def __init__(self, pooling: PyramidPooling, size: tuple[int, int]) -> None:
        super().__init__()
        self.pooling = pooling
        self.register_buffer("matrix", bins_matrix(size, torch.zeros(())))

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        means = F.linear(x.flatten(2), self.matrix).transpose(1, 2)  # [1, 50, channels]
        parts, start = [x], 0
        for bins, level in zip(PPM_BINS, self.pooling.levels, strict=True):
            own = means[:, start : start + bins * bins].reshape(1, bins, bins, channels).permute(0, 3, 1, 2)
            parts.append(resize(level(own), x, self.pooling.align_corners))
            start += bins * bins
        y: Tensor = self.pooling.project(torch.cat(parts, dim=1))
        return y
