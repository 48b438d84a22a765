"""The network as a graphics card runs it: the same function of the images in fewer kernels.

Every batch norm, and the scale of the normalisation, is fused into the convolution beside it. The averages of the
pyramid pooling, for which `model.py` makes eight matrices on each call, are one product with a matrix made beforehand:
on a card those many tiny kernels would take longer than the layers around them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fastscnn.network.fast_scnn import FastSCNN, PyramidPooling, averages, fused, resize


class FusedNetwork(nn.Module):
    """What `model` computes in evaluation mode, up to rounding.

    Args:
        model: is left as it is.
        dtype: of the arithmetic.
    """

    mean: Tensor
    pooling: PyramidPooling

    def __init__(self, model: FastSCNN, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        plain = fused(model)
        mean, std = plain.mean.detach().clone(), plain.std.detach()
        _fuse(plain)
        first = plain.downsample[0][0]  # type: ignore[index]
        with torch.no_grad():
            # The mean stays outside: the padding of the first convolution is zero behind it.
            first.weight /= std[:, None, None]
        last = len(plain.global_features) - 1
        pooling = plain.global_features[last]
        if not isinstance(pooling, PyramidPooling):
            raise TypeError(f"The global features end with {type(pooling).__name__}.")
        self.register_buffer("mean", mean[:, None, None])
        self.downsample, self.global_features, self.pooling = plain.downsample, plain.global_features[:last], pooling
        self.fusion, self.classifier = plain.fusion, plain.classifier
        self.eval().requires_grad_(False).to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor, averages: Tensor) -> Tensor:
        """Class logits.

        Args:
            images: uint8 [N, H, W, channels].
            averages: what `self.averages` gives for that size; held by the caller, who knows how long it is needed.

        Returns:
            [N, classes, H/8, W/8] in the network's type.
        """
        x = images.permute(0, 3, 1, 2) - self.mean  # one kernel: integers become the mean's type on the way
        skip = self.downsample(x)
        logits: Tensor = self.classifier(self.fusion(skip, self._pooled(self.global_features(skip), averages)))
        return logits

    def averages(self, height: int, width: int) -> Tensor:
        """Matrix [50 bins of all levels, pixels at 1/32] for images of that size: the adaptive average pooling of them."""
        rows, columns = -(-height // 32), -(-width // 32)
        like = self.mean.float()  # the product is rounded once, to the network's type
        levels = []
        for bins in PyramidPooling.BINS:
            down, right = averages(rows, bins, like), averages(columns, bins, like)
            shares = down[:, None, :, None] * right[None, :, None, :]
            levels.append(shares.reshape(bins * bins, rows * columns))
        return torch.cat(levels).to(self.mean)

    def _pooled(self, x: Tensor, averages: Tensor) -> Tensor:
        """What `PyramidPooling` gives for x [N, channels, H/32, W/32]."""
        count, channels, height, width = x.shape
        means = averages @ x.permute(0, 2, 3, 1).reshape(count, height * width, channels)  # [N, 50, channels]
        parts, start = [x], 0
        for bins, level in zip(PyramidPooling.BINS, self.pooling.levels, strict=True):
            own = means[:, start : start + bins * bins].reshape(count, bins, bins, channels).permute(0, 3, 1, 2)
            parts.append(resize(level(own), x, self.pooling.align_corners))
            start += bins * bins
        y: Tensor = self.pooling.project(torch.cat(parts, dim=1))
        return y


def _fuse(model: nn.Module) -> None:
    """Replaces each convolution that a batch norm follows by one that does both."""
    for layer in list(model.modules()):
        if isinstance(layer, nn.Sequential) and len(layer) > 1 and isinstance(layer[1], nn.BatchNorm2d):
            conv = layer[0]
            if not isinstance(conv, nn.Conv2d):
                raise TypeError(f"A batch norm follows {type(conv).__name__}.")
            layer[0] = fuse_conv_bn_eval(conv, layer[1])
            del layer[1]
