"""The network as a GPU runs it: the same function in fewer kernels.

Every batch norm, and the scale of the normalisation, is fused into the convolution beside it. The pyramid pooling, for
which `fast_scnn.py` builds eight matrices per call, is one product with a matrix built beforehand. On a GPU, launching
many small kernels would take longer than the layers around them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fastscnn.model import architecture
from fastscnn.model.architecture import DEEP_STRIDE, PPM_BINS
from fastscnn.network.fast_scnn import FastSCNN, PyramidPooling, fused, pooling_matrix, resize


class FusedNetwork(nn.Module):
    """The same function as `model` in evaluation mode, up to rounding.

    Args:
        model: the network; it is not changed.
        dtype: of the arithmetic.
    """

    mean: Tensor
    pooling: PyramidPooling

    def __init__(self, model: FastSCNN, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        plain = folded(model)
        self.register_buffer("mean", plain.mean[:, None, None])
        self.downsample, self.global_features, self.pooling = plain.downsample, plain.global_features[:-1], pooling_of(plain)
        self.fusion, self.classifier = plain.fusion, plain.classifier
        self.eval().requires_grad_(False).to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor, pooling: Tensor) -> Tensor:
        """Return class logits.

        Args:
            images: uint8 [N, H, W, channels].
            pooling: `pooling_matrix` of H and W.

        Returns:
            [N, classes, H/8, W/8], of the network's dtype.
        """
        x = images.permute(0, 3, 1, 2) - self.mean  # one kernel: it also converts the integers
        skip = self.downsample(x)
        logits: Tensor = self.classifier(self.fusion(skip, self._pooled(self.global_features(skip), pooling)))
        return logits

    def pooling_matrix(self, height: int, width: int) -> Tensor:
        """Return the average pooling of all levels as one matrix, for images of that height and width.

        Returns:
            [50, H/32 * W/32]: a row for each bin of each level, a column for each pixel of the deep features.
        """
        like = self.mean.float()  # rounded once, from float32 to the network's dtype
        return bins_matrix(architecture.reduced((height, width), DEEP_STRIDE), like).to(self.mean)

    def _pooled(self, x: Tensor, pooling: Tensor) -> Tensor:
        """The output of `PyramidPooling` for x [N, channels, H/32, W/32]."""
        count, channels, height, width = x.shape
        means = pooling @ x.permute(0, 2, 3, 1).reshape(count, height * width, channels)  # [N, 50, channels]
        parts, start = [x], 0
        for bins, level in zip(PPM_BINS, self.pooling.levels, strict=True):
            own = means[:, start : start + bins * bins].reshape(count, bins, bins, channels).permute(0, 3, 1, 2)
            parts.append(resize(level(own), x, self.pooling.align_corners))
            start += bins * bins
        y: Tensor = self.pooling.project(torch.cat(parts, dim=1))
        return y


def folded(model: FastSCNN) -> FastSCNN:
    """Return a copy with every batch norm, and the division by `std`, fused into the convolution beside it.

    Its `std` is 1. The mean is still subtracted from the image: the first convolution pads the normalised image with zeros.
    """
    plain = fused(model)
    _fuse_batch_norms(plain)
    first = plain.downsample[0][0]  # type: ignore[index]
    with torch.no_grad():
        first.weight /= plain.std[:, None, None]
        plain.std.fill_(1)
    return plain


def pooling_of(model: FastSCNN) -> PyramidPooling:
    """Return the pyramid pooling of a network."""
    pooling = model.get_submodule(architecture.PPM)
    if not isinstance(pooling, PyramidPooling):
        raise TypeError(f"{architecture.PPM} is a {type(pooling).__name__}, not the pyramid pooling.")
    return pooling


def bins_matrix(size: tuple[int, int], like: Tensor) -> Tensor:
    """Return the average pooling of all levels of the pyramid pooling as one matrix.

    Args:
        size: (rows, columns) of the deep features.
        like: a tensor with the device and dtype to use.

    Returns:
        [50, rows * columns]: a row for each bin of each level, a column for each pixel of the deep features.
    """
    rows, columns = size
    levels = []
    for bins in PPM_BINS:
        down, right = pooling_matrix(rows, bins, like), pooling_matrix(columns, bins, like)
        weights = down[:, None, :, None] * right[None, :, None, :]
        levels.append(weights.reshape(bins * bins, rows * columns))
    return torch.cat(levels)


def _fuse_batch_norms(model: FastSCNN) -> None:
    """Fuse each batch norm into the convolution before it, in place."""
    for block in list(model.modules()):
        if isinstance(block, nn.Sequential) and len(block) > 1 and isinstance(norm := block[1], nn.BatchNorm2d):
            conv = block[0]
            assert isinstance(conv, nn.Conv2d)
            block[0] = fuse_conv_bn_eval(conv, norm)
            del block[1]
