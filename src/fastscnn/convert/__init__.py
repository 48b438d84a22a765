"""How are checkpoints of mmsegmentation, Tramac's Fast-SCNN-pytorch and PaddleSeg converted?

The converted network computes the same logits as the implementation that trained it. Every tensor of a checkpoint must be
used or be known to be unnecessary; otherwise the file is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastscnn.base.arguments import MAX_PIXELS
from fastscnn.base.errors import ArgumentError, FastSCNNError, unknown
from fastscnn.convert import pickles
from fastscnn.convert.layouts import LAYOUTS, PROJECT, Layout
from fastscnn.inference.size import network_size
from fastscnn.model import architecture
from fastscnn.model.architecture import PPM_BINS
from fastscnn.model.card import Card
from fastscnn.model.label_set import LabelSet
from fastscnn.network import checkpoint
from fastscnn.network.fast_scnn import FastSCNN

AUTO = "auto"
_WRAPPERS = ("state_dict", "model_state_dict", "model")  # keys under which a checkpoint can hold its tensors
_COUNTERS = ("steps", "n_averaged")  # keys beside `module.` in the averaged models of PyTorch and mmengine
_AVERAGE = "ema_"  # prefix of the averages of mmcv's EMAHook; the rest of the name has `_` for `.`
_HEAD = architecture.layers()[-1].name  # our convolution whose output channels are the classes


def convert(file: Path, out: Path, layout: str, label_set: LabelSet, size: tuple[int, int]) -> Card:
    """Convert a checkpoint of another implementation to a .safetensors file of fastscnn.

    Args:
        file: the checkpoint.
        out: the .safetensors file to write.
        layout: a name in `LAYOUTS`, or "auto", which decides by the names of the tensors.
        label_set: the classes, in the order of the logits.
        size: (height, width) of the input that the weights were trained for.

    Returns:
        The card of the written file.

    Raises:
        ArgumentError: `out` does not end in .safetensors, or a size below 32x32 or over 40 megapixels.
        FastSCNNError: as `converted`, or the file cannot be written.
    """
    if out.suffix != ".safetensors":
        raise ArgumentError(f"{out}: weights are written as safetensors; use the file extension .safetensors.")
    used = network_size(size)
    if not isinstance(used, tuple) or used[0] * used[1] > MAX_PIXELS:
        raise ArgumentError(f"size: must be (height, width) of at most {MAX_PIXELS // 1_000_000} megapixels, not {size!r}.")
    model, card = converted(file, layout, label_set, used)
    return checkpoint.save(out, model, card)


def converted(file: Path, layout: str, label_set: LabelSet, size: tuple[int, int]) -> tuple[FastSCNN, Card]:
    """Return the network of a checkpoint, in evaluation mode on the CPU, and its card.

    Args:
        file, layout, label_set, size: see `convert`.

    Raises:
        FastSCNNError: the file cannot be read, holds code, another network or another number of classes, or a tensor is
            missing, unexpected, of the wrong shape, or not finite.
    """
    tensors = _tensors(file)
    found = _layout(file, layout, tensors)
    model = FastSCNN(len(label_set), variant=found.variant)
    _check_classes(file, found, tensors, label_set)
    model.load_state_dict(_renamed(file, found, tensors, model.state_dict()))
    described = {"source": f"converted from the {found.project} checkpoint {file.name}"}
    return model.eval(), Card(label_set, size, found.variant, recipe=described)


def _tensors(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name, without wrappers and prefixes.

    mmengine's EMAHook stores the averages in `state_dict` and the plain weights in `ema_state_dict`. mmcv's EMAHook stores
    both in one dictionary; the values under the plain names are those that mmsegmentation runs, so they are used.
    """
    content: Mapping[str, Any] = pickles.read(file)
    for wrapper in _WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    named = {str(name): value for name, value in content.items()}
    wrapped = {name: value for name, value in named.items() if name not in _COUNTERS}
    # What contains the network: `module.` of DataParallel, `model.` of Lightning, `_orig_mod.` of torch.compile.
    while len(wrapped) > 1 and len({name.partition(".")[0] for name in wrapped}) == 1:
        named = wrapped = {name.partition(".")[2]: value for name, value in wrapped.items()}
    second = {_AVERAGE + name.replace(".", "_") for name in named}
    named = {name: value for name, value in named.items() if name not in second}
    for name, value in named.items():
        if not isinstance(value, Tensor):
            raise FastSCNNError(f"{file}: contains {name}, which is a {type(value).__name__} and not a tensor; "
                                "save the state dict of the network alone.")
        if value.is_nested or value.is_meta or value.is_quantized or value.layout != torch.strided:
            raise FastSCNNError(f"{file}: the tensor {name} is nested, quantised, sparse or without values (meta); save it as "
                                "an ordinary one.")
    if not named:
        raise FastSCNNError(f"{file}: contains no tensors; use a checkpoint of a trained network.")
    return named


def _layout(file: Path, layout: str, tensors: Mapping[str, Tensor]) -> Layout:
    """Return the layout of the tensors, which must be the requested one."""
    if layout != AUTO and layout not in LAYOUTS:
        raise unknown("layout", layout, [AUTO, *LAYOUTS])
    seen = max(LAYOUTS, key=lambda name: LAYOUTS[name].share(tensors))
    if LAYOUTS[seen].share(tensors) < 0.5:
        projects = " or ".join(known.project for name, known in LAYOUTS.items() if layout in (AUTO, name))
        raise FastSCNNError(f"{file}: is not a Fast-SCNN of {projects}; its first tensor is {next(iter(tensors))}.")
    if layout not in (AUTO, seen):
        raise FastSCNNError(f"{file}: is a Fast-SCNN of {LAYOUTS[seen].project}, not of {LAYOUTS[layout].project}; "
                            f"use the layout {seen} or {AUTO}.")
    return LAYOUTS[seen]


def _check_classes(file: Path, layout: Layout, tensors: Mapping[str, Tensor], label_set: LabelSet) -> None:
    last = tensors.get(f"{layout.last}.weight")
    if last is not None and last.ndim and len(last) != len(label_set):
        raise FastSCNNError(f"{file}: has {len(last)} classes ({layout.last}.weight), but {len(label_set)} are given "
                            f"({', '.join(label_set.names)}); give its own classes, in the order of its logits.")


def _renamed(file: Path, layout: Layout, tensors: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under our names. Each of theirs is used once or belongs to an auxiliary head."""
    left = {name: tensor for name, tensor in tensors.items() if not name.startswith(layout.auxiliary)}

    def take(name: str, like: Tensor) -> Tensor:
        if name not in left:
            raise FastSCNNError(f"{file}: the tensor {name} of the Fast-SCNN of {layout.project} is missing; "
                                "use a complete checkpoint.")
        tensor = left.pop(name)
        if tensor.shape != like.shape:
            raise FastSCNNError(f"{file}: the tensor {name} has the shape {list(tensor.shape)}, not {list(like.shape)}.")
        if not tensor.dtype.is_floating_point:
            raise FastSCNNError(f"{file}: the tensor {name} has the dtype {tensor.dtype}, which is not floating-point.")
        tensor = tensor.detach().float()
        if not tensor.isfinite().all():
            raise FastSCNNError(f"{file}: the tensor {name} contains NaN or infinity, so the training diverged; "
                                "use an earlier checkpoint.")
        return tensor

    taken = dict(ours)
    for pair in layout.pairs:
        conv, norm = f"{pair.ours}.0", f"{pair.ours}.1"
        weight = take(f"{pair.conv}.weight", ours[f"{conv}.weight"])
        taken[f"{conv}.weight"] = _coarsest_first(weight) if layout.reversed_levels and pair.ours == PROJECT else weight
        for name in ("weight", "bias"):
            taken[f"{norm}.{name}"] = take(f"{pair.norm}.{name}", ours[f"{norm}.{name}"])
        mean = take(f"{pair.norm}.{layout.mean_name}", ours[f"{norm}.running_mean"])
        if pair.bias:  # the running mean includes the bias of the convolution, which ours does not have
            mean = (mean.double() - take(f"{pair.conv}.bias", mean).double()).float()
        taken[f"{norm}.running_mean"] = mean
        taken[f"{norm}.running_var"] = take(f"{pair.norm}.{layout.variance_name}", ours[f"{norm}.running_var"])
        # The number of training steps, which evaluation does not use; PyTorch before 0.4.1 and Paddle do not have it.
        left.pop(f"{pair.norm}.num_batches_tracked", None)
    for name in ("weight", "bias"):
        taken[f"{_HEAD}.{name}"] = take(f"{layout.last}.{name}", ours[f"{_HEAD}.{name}"])
    if left:
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        raise FastSCNNError(f"{file}: unexpected tensor {next(iter(left))}{more}; the Fast-SCNN of {layout.project} has none.")
    if layout.mean is not None and layout.std is not None:
        taken["mean"], taken["std"] = torch.full_like(ours["mean"], layout.mean), torch.full_like(ours["std"], layout.std)
    return taken


def _coarsest_first(weight: Tensor) -> Tensor:
    """Return the kernel after the pyramid pooling with its inputs in our order, from 1 bin to 6 bins per side."""
    features = weight.shape[1] // 2
    levels = weight[:, features:].chunk(len(PPM_BINS), dim=1)
    return torch.cat([weight[:, :features], *reversed(levels)], dim=1)
