"""The first step's state: a fresh network or one that goes on from weights, its average and its optimiser."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from fastscnn.base.errors import FastSCNNError
from fastscnn.model.card import Card
from fastscnn.network import checkpoint
from fastscnn.network.classifier_card import ClassifierCard
from fastscnn.network.fast_scnn import Backbone, FastSCNN
from fastscnn.training.recipes import Recipe
from fastscnn.training.run import State

_FIRST = "downsample.0.0.weight"  # of the first convolution
_SHARED = ("downsample.", "global_features.", "mean", "std")  # what a classifier has in common with us
_HEAD = "classifier.3."  # the layer whose channels are the classes


def initial(recipe: Recipe, card: Card, device: torch.device, weights: Path | None = None) -> tuple[State, list[str]]:
    """The state before the first step.

    Args:
        recipe: how to train.
        card: of the network to be trained: its classes, channels and layout.
        device: where to train.
        weights: a .safetensors file to go on from, of such a network or of a classifier; None: random ones by the recipe's
            seed.

    Returns:
        The state, and what was not taken from `weights`, in sentences.

    Raises:
        FastSCNNError: weights that cannot be read or are of another network.
    """
    torch.manual_seed(recipe.seed)
    classes, channels = len(card.label_set), card.channels
    auxiliary = recipe.auxiliary > 0
    model = FastSCNN(classes, channels, recipe.variant, recipe.width_mult, recipe.dropout, auxiliary, recipe.reparam_branches)
    notes = _take_over(model, card, weights) if weights else []
    return initial_state(recipe, model, device), notes


def initial_state(recipe: Recipe, model: Backbone, device: torch.device) -> State:
    """The state before the first step of a network that has its first weights."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = recipe.norm_momentum
    model = model.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    return State(model, copy.deepcopy(model).eval(), _optimiser(recipe, model))


def teachers(paths: Sequence[Path], card: Card, device: torch.device) -> list[FastSCNN]:
    """The networks to learn from. Raises FastSCNNError where one does not know the same classes."""
    models = []
    for path in paths:
        model, theirs = checkpoint.load(path)
        if (theirs.label_set.names, theirs.channels) != (card.label_set.names, card.channels):
            raise FastSCNNError(f"{path}: cannot teach, since its classes or channels are not those of the dataset.")
        models.append(model.to(device, memory_format=torch.channels_last))  # type: ignore[call-overload]
    return models


def _take_over(model: FastSCNN, card: Card, path: Path) -> list[str]:
    source, theirs = checkpoint.load_any(path)
    ours = (card.variant, card.width_mult, card.channels)
    if (theirs.variant, theirs.width_mult) != ours[:2]:
        raise FastSCNNError(f"{path}: is of variant {theirs.variant!r}, width {theirs.width_mult}, {theirs.channels} channels, "
                            f"but variant {ours[0]!r}, width {ours[1]} and {ours[2]} channels are to be trained.")
    if theirs.channels != ours[2] and not theirs.channels == 3 < ours[2]:
        raise FastSCNNError(f"{path}: is of {theirs.channels} channels, but {ours[2]} are to be trained; "
                            f"go on from weights of {'RGB or ' if ours[2] > 3 else ''}{ours[2]} channels.")
    taken: dict[str, Tensor] = dict(source.state_dict())
    notes = []
    if theirs.channels < ours[2]:
        taken |= _widened(model, taken)
        notes.append(f"{path}: knows {theirs.channels} channels of the {ours[2]}; it begins without a weight for the others.")
    if isinstance(theirs, ClassifierCard):
        taken = {name: tensor for name, tensor in taken.items() if name.startswith(_SHARED)}
        notes.append(f"{path}: is of a classifier, so that learning to downsample and the global features are taken from it; "
                     "the rest begins anew.")
    elif theirs.label_set.names != card.label_set.names:
        taken = {name: tensor for name, tensor in taken.items() if not name.startswith(_HEAD)}
        before, now = ", ".join(theirs.label_set.names), ", ".join(card.label_set.names)
        notes.append(f"{path}: its last layer is replaced, because its classes ({before}) are not those of the data ({now}).")
    model.load_state_dict({**model.state_dict(), **taken})
    for conv in model.depthwise():
        if conv.branch is not None:
            nn.init.zeros_(conv.branch.weight)  # so that the first step computes what the weights compute
    return notes


def _widened(model: FastSCNN, taken: dict[str, Tensor]) -> dict[str, Tensor]:
    """What depends on the channels of the image, for a network of more than RGB that computes what the one of RGB does: the
    weights of the further channels are zero, their mean and deviation the model's own."""
    first = taken[_FIRST]
    weight = first.new_zeros(len(first), len(model.mean), *first.shape[2:])
    weight[:, : first.shape[1]] = first
    statistics = {name: torch.cat([taken[name], model.get_buffer(name)[first.shape[1] :]]) for name in ("mean", "std")}
    return {_FIRST: weight, **statistics}


def _optimiser(recipe: Recipe, model: Backbone) -> torch.optim.Optimizer:
    free = set() if recipe.weight_decay_on == "all" else {id(conv.weight) for conv in model.depthwise()}
    decayed = [parameter for parameter in model.parameters() if id(parameter) not in free]
    others = [parameter for parameter in model.parameters() if id(parameter) in free]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr, betas=(recipe.momentum, 0.999))
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum)
