"""foreign: takes over the weights of other implementations: mmsegmentation, Tramac's Fast-SCNN-pytorch and PaddleSeg.

Every tensor of a checkpoint is used once, or known to be of no use, or the file is refused. What comes out computes the
logits of the implementation that trained it, and is a weight file like any other of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastscnn.base.errors import FastSCNNError, unknown
from fastscnn.convert import pickles
from fastscnn.convert.layouts import LAYOUTS, PROJECT, Layout
from fastscnn.model.card import Card
from fastscnn.model.label_set import LabelSet
from fastscnn.network import checkpoint
from fastscnn.network.fast_scnn import FastSCNN, PyramidPooling

AUTO = "auto"
_WRAPPERS = ("state_dict", "model_state_dict", "model")  # under which a checkpoint may keep its tensors
_COUNTERS = ("steps", "n_averaged")  # what PyTorch's and mmengine's averaged models hold beside `module.`
_AVERAGE = "ema_"  # mmcv's EMAHook keeps a second value of each parameter under this and its name with `_` for `.`
_HEAD = "classifier.3"  # our convolution whose channels are the classes


def convert(file: Path, out: Path, layout: str, label_set: LabelSet, size: tuple[int, int]) -> Card:
    """Writes the weights of another implementation as one of our .safetensors files.

    Args:
        file: its checkpoint.
        out: where to write.
        layout: a name in `LAYOUTS`, or `auto`, which looks at the names of the tensors.
        label_set: the classes, in the order of its logits.
        size: (height, width) of the input that the weights were trained for.

    Returns:
        The card of the file that was written.

    Raises:
        FastSCNNError: as `converted` does, or the file cannot be written.
    """
    if out.suffix != ".safetensors":
        raise FastSCNNError(f"{out}: weights are written as safetensors; give it that ending.")
    model, card = converted(file, layout, label_set, size)
    return checkpoint.save(out, model, card)


def converted(file: Path, layout: str, label_set: LabelSet, size: tuple[int, int]) -> tuple[FastSCNN, Card]:
    """The network that computes what a checkpoint's own implementation does, in evaluation mode on the CPU, and its card.

    Args:
        file, layout, label_set, size: as in `convert`.

    Raises:
        FastSCNNError: a file that cannot be read, that holds code, another network or other classes, or of which a tensor
            is missing, left over, of another shape, or not finite.
    """
    tensors = _tensors(file)
    found = _layout(file, layout, tensors)
    model = FastSCNN(len(label_set), variant=found.variant)
    _check_classes(file, found, tensors, label_set)
    model.load_state_dict(_renamed(file, found, tensors, model.state_dict()))
    described = {"source": f"converted from the {found.project} checkpoint {file.name}"}
    return model.eval(), Card(label_set, size, found.variant, recipe=described)


def _tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by the names that its network gives them, out of all that wraps them.

    Where mmengine's EMAHook was used, `state_dict` holds the averages and `ema_state_dict` the plain weights. mmcv's keeps
    both in one dictionary; the values under the plain names are those that mmsegmentation runs, and they are taken.
    """
    content: Mapping[str, Any] = pickles.read(file)
    for wrapper in _WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    named = {str(name): value for name, value in content.items()}
    wrapped = {name: value for name, value in named.items() if name not in _COUNTERS}
    while wrapped and all(name.startswith("module.") for name in wrapped):
        named = wrapped = {name.removeprefix("module."): value for name, value in wrapped.items()}
    second = {_AVERAGE + name.replace(".", "_") for name in named}
    named = {name: value for name, value in named.items() if name not in second}
    for name, value in named.items():
        if not isinstance(value, Tensor):
            raise FastSCNNError(f"{file}: holds {name}, which is a {type(value).__name__} and no tensor of a network.")
    if not named:
        raise FastSCNNError(f"{file}: holds no tensors.")
    return named


def _layout(file: Path, layout: str, tensors: Mapping[str, Tensor]) -> Layout:
    """The layout asked for, where the tensors have it."""
    if layout != AUTO and layout not in LAYOUTS:
        raise unknown("layout", layout, [AUTO, *LAYOUTS])
    seen = max(LAYOUTS, key=lambda name: LAYOUTS[name].share(tensors))
    if LAYOUTS[seen].share(tensors) < 0.5:
        projects = " or ".join(known.project for name, known in LAYOUTS.items() if layout in (AUTO, name))
        raise FastSCNNError(f"{file}: is of another network than the Fast-SCNN of {projects}; "
                            f"it begins with the tensor {next(iter(tensors))}.")
    if layout not in (AUTO, seen):
        raise FastSCNNError(f"{file}: is a Fast-SCNN of {LAYOUTS[seen].project}, not of {LAYOUTS[layout].project}; "
                            f"convert it as {seen} or {AUTO}.")
    return LAYOUTS[seen]


def _check_classes(file: Path, layout: Layout, tensors: Mapping[str, Tensor], label_set: LabelSet) -> None:
    last = tensors.get(f"{layout.last}.weight")
    if last is not None and last.ndim and len(last) != len(label_set):
        raise FastSCNNError(f"{file}: gives {len(last)} classes ({layout.last}.weight), but {len(label_set)} are named "
                            f"({', '.join(label_set.names)}); name its own, in the order of its logits.")


def _renamed(file: Path, layout: Layout, tensors: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of our network. Each of theirs is used once or belongs to an auxiliary head."""
    left = {name: tensor for name, tensor in tensors.items() if not name.startswith(layout.auxiliary)}

    def take(name: str, like: Tensor) -> Tensor:
        if name not in left:
            raise FastSCNNError(f"{file}: lacks the tensor {name} of the Fast-SCNN of {layout.project}.")
        tensor = left.pop(name)
        if tensor.shape != like.shape:
            raise FastSCNNError(f"{file}: its tensor {name} is of shape {list(tensor.shape)}, not {list(like.shape)}.")
        if tensor.layout != torch.strided or tensor.is_quantized or not tensor.dtype.is_floating_point:
            raise FastSCNNError(f"{file}: its tensor {name} is of {tensor.dtype}, not of floating-point numbers.")
        tensor = tensor.detach().float()
        if not tensor.isfinite().all():
            raise FastSCNNError(f"{file}: its tensor {name} holds values that are not finite; the training broke.")
        return tensor

    taken = dict(ours)
    for pair in layout.pairs:
        conv, norm = f"{pair.ours}.0", f"{pair.ours}.1"
        weight = take(f"{pair.conv}.weight", ours[f"{conv}.weight"])
        taken[f"{conv}.weight"] = _coarsest_first(weight) if layout.reversed_levels and pair.ours == PROJECT else weight
        for name in ("weight", "bias"):
            taken[f"{norm}.{name}"] = take(f"{pair.norm}.{name}", ours[f"{norm}.{name}"])
        mean = take(f"{pair.norm}.{layout.mean_name}", ours[f"{norm}.running_mean"])
        if pair.bias:  # what the batch norm subtracts includes it
            mean = (mean.double() - take(f"{pair.conv}.bias", mean).double()).float()
        taken[f"{norm}.running_mean"] = mean
        taken[f"{norm}.running_var"] = take(f"{pair.norm}.{layout.variance_name}", ours[f"{norm}.running_var"])
        # Counts the steps of the training, which nothing here depends on; PyTorch before 0.4.1 and Paddle have none.
        left.pop(f"{pair.norm}.num_batches_tracked", None)
    for name in ("weight", "bias"):
        taken[f"{_HEAD}.{name}"] = take(f"{layout.last}.{name}", ours[f"{_HEAD}.{name}"])
    if left:
        raise FastSCNNError(f"{file}: holds the tensor {next(iter(left))}, which no Fast-SCNN of {layout.project} has"
                            f"{f', and {len(left) - 1} more' if len(left) > 1 else ''}.")
    if layout.mean is not None and layout.std is not None:
        taken["mean"], taken["std"] = torch.full_like(ours["mean"], layout.mean), torch.full_like(ours["std"], layout.std)
    return taken


def _coarsest_first(weight: Tensor) -> Tensor:
    """The kernel behind the pyramid pooling with the inputs of its levels in our order, from 1 bin to 6 a side."""
    features = weight.shape[1] // 2
    levels = weight[:, features:].chunk(len(PyramidPooling.BINS), dim=1)
    return torch.cat([weight[:, :features], *reversed(levels)], dim=1)
