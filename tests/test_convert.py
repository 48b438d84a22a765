"""Converting checkpoints: their logits are reproduced, every tensor counts, and no code in a file is run.

The forward passes of the other implementations are restated here from their sources, not from `layouts.py`: names,
paddings, biases and interpolation.
"""

from __future__ import annotations

import argparse
import functools
import os
import pickle
import subprocess
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastscnn import convert
from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.convert import pickle_limits, pickles
from fastscnn.convert.layouts import LAYOUTS, PROJECT
from fastscnn.data import datasets
from fastscnn.evaluation.evaluate import evaluate_pairs
from fastscnn.exporting import pipeline, stem
from fastscnn.inference.segmenter import Segmenter
from fastscnn.media import images
from fastscnn.model.architecture import VARIANTS
from fastscnn.model.label_set import LabelSet
from fastscnn.network import checkpoint
from fastscnn.network.fast_scnn import FastSCNN
from fastscnn.network.fuse import FusedNetwork

CLASSES = LabelSet(tuple(f"class {index}" for index in range(5)))
SIZE = (64, 96)
PEER = Path(__file__).parents[2] / "shared" / "peers" / "mmseg_peer.py"
# A virtual environment in which mmsegmentation is installed, where there is one.
PEER_PYTHON = Path(os.environ.get("FASTSCNN_MMSEG", "no environment")) / "bin" / "python"

State = dict[str, Any]
LEGACY = pickle.dumps(0x1950A86A20F9469CFC6C, 2)  # PyTorch before 1.6 begins with this number


@functools.cache
def network(variant: str) -> FastSCNN:
    """One whose batch norms have statistics as a trained one's have; it is not to be changed."""
    torch.manual_seed(0)
    model = FastSCNN(len(CLASSES), variant=variant).eval()
    for name, tensor in model.state_dict().items():
        if name.endswith("running_mean"):
            tensor.normal_(0, 0.2)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif name.endswith("num_batches_tracked"):
            tensor.fill_(7)
        elif "levels" in name and name.endswith(".1.weight"):  # so that what is done to the pooled features shows
            tensor.uniform_(4, 8)
        elif ".1.weight" in name or ".1.bias" in name:
            tensor.uniform_(0.5, 1.5)
    return model


def as_theirs(layout: str, model: FastSCNN, seed: int = 1) -> State:
    """The checkpoint of another implementation that computes what a model of ours does: tensors renamed, biases drawn."""
    random = torch.Generator().manual_seed(seed)
    form, ours = LAYOUTS[layout], model.state_dict()
    theirs: State = OrderedDict()
    for pair in form.pairs:
        weight, norm = ours[f"{pair.ours}.0.weight"], f"{pair.ours}.1"
        if form.reversed_levels and pair.ours == PROJECT:
            weight = torch.cat([weight[:, :128], *(weight[:, low : low + 32] for low in (224, 192, 160, 128))], dim=1)
        theirs[f"{pair.conv}.weight"] = weight
        mean = ours[f"{norm}.running_mean"]
        if pair.bias:
            theirs[f"{pair.conv}.bias"] = torch.randn(mean.shape, generator=random)
            mean = mean + theirs[f"{pair.conv}.bias"]
        for name in ("weight", "bias"):
            theirs[f"{pair.norm}.{name}"] = ours[f"{norm}.{name}"]
        theirs[f"{pair.norm}.{form.mean_name}"] = mean
        theirs[f"{pair.norm}.{form.variance_name}"] = ours[f"{norm}.running_var"]
        if layout != "paddleseg":
            theirs[f"{pair.norm}.num_batches_tracked"] = ours[f"{norm}.num_batches_tracked"]
    for name in ("weight", "bias"):
        theirs[f"{form.last}.{name}"] = ours[f"classifier.3.{name}"]
    theirs[f"{form.auxiliary}0.weight"] = torch.zeros(3, 3)  # ours knows them by how their names begin
    return {name: tensor.clone() for name, tensor in theirs.items()}


def write(file: Path, layout: str, content: Any) -> Path:
    """A checkpoint as its project saves it: with torch.save, or a pickle of arrays."""
    if layout == "paddleseg":
        arrays = {name: value.numpy() if isinstance(value, Tensor) else value for name, value in content.items()}
        file.write_bytes(pickle.dumps({**arrays, "StructuredToParameterName@@": {"a": "b"}}, protocol=4))
    else:
        torch.save(content, file)
    return file


@pytest.fixture(params=list(LAYOUTS))
def layout(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def theirs(layout: str) -> State:
    return as_theirs(layout, network(layout))


def close(model: FastSCNN, other: FastSCNN) -> bool:
    """Whether two networks have the same tensors up to rounding, counters and normalisation aside."""
    state, others = model.state_dict(), other.state_dict()
    names = [name for name in state if "num_batches" not in name and name not in ("mean", "std")]
    return all(torch.allclose(state[name], others[name], atol=1e-6) for name in names)


# What comes back


def test_a_checkpoint_becomes_a_weight_file(tmp_path: Path, layout: str, theirs: State) -> None:
    file = write(tmp_path / "theirs.pth", layout, theirs)
    written = convert.convert(file, tmp_path / "w.safetensors", "auto", CLASSES, SIZE)
    model, card = checkpoint.load(tmp_path / "w.safetensors")
    assert card == written
    assert (card.variant, card.size, card.label_set, card.data) == (layout, SIZE, CLASSES, None)
    assert card.recipe == {"source": f"converted from the {LAYOUTS[layout].project} checkpoint theirs.pth"}
    assert close(model, network(layout))
    grey = [127.5] * 3 if layout == "paddleseg" else [123.675, 116.28, 103.53]
    assert model.mean.tolist() == pytest.approx(grey)


def test_every_variant_but_the_papers_has_a_layout() -> None:
    assert set(VARIANTS) == {"paper", *(form.variant for form in LAYOUTS.values())}
    for form in LAYOUTS.values():
        names = [name for pair in form.pairs for name in (pair.conv, pair.norm)]
        assert len(set(names)) == len(names) == 2 * len({pair.ours for pair in form.pairs})


def mmcv_average(state: State) -> State:
    """As mmcv's EMAHook saves: a second value of every parameter beside it."""
    return {**state, **{f"ema_{name.replace('.', '_')}": value + 1 for name, value in state.items() if "running" not in name}}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "meta": {"iter": 3, "CLASSES": ("a",)}, "optimizer": {"groups": [{"lr": 1.0}]}},
        lambda state: {"state_dict": {f"module.{name}": value for name, value in state.items()}},
        lambda state: {f"module.module.{name}": value for name, value in state.items()},
        lambda state: {"steps": torch.tensor(3), **{f"module.{name}": value for name, value in state.items()}},
        lambda state: {"state_dict": state, "ema_state_dict": {f"module.{name}": value + 1 for name, value in state.items()}},
        lambda state: {"state_dict": mmcv_average(state)},
        lambda state: {f"module.{name}": value for name, value in mmcv_average(state).items()},
        lambda state: {"model": {name: value for name, value in state.items() if "num_batches" not in name}},
        lambda state: {"model_state_dict": {name: torch.nn.Parameter(state[name]) for name in state if "num_" not in name}},
    ],
    ids=["state_dict", "module", "twice", "averaged", "mmengine ema", "mmcv ema", "mmcv ema, module", "old", "parameters"],
)
@pytest.mark.parametrize(("name", "zipped"), [("mmseg", True), ("tramac", False)])
def test_wrappers_are_taken_off(tmp_path: Path, name: str, wrap: Callable[[State], Any], zipped: bool) -> None:
    file = tmp_path / "theirs.pth"
    torch.save(wrap(as_theirs(name, network(name))), file, _use_new_zipfile_serialization=zipped)
    model, _ = convert.converted(file, name, CLASSES, SIZE)
    assert close(model, network(name))


def test_half_precision_is_taken(tmp_path: Path) -> None:
    whole = as_theirs("mmseg", network("mmseg"))
    state = {name: value.half() if value.is_floating_point() else value for name, value in whole.items()}
    model, _ = convert.converted(write(tmp_path / "half.pth", "mmseg", state), "mmseg", CLASSES, SIZE)
    assert all(value.dtype == torch.float32 for name, value in model.state_dict().items() if "num_batches" not in name)


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("order", [">f4", "<f8"])
def test_pickled_arrays_of_any_protocol_and_order(tmp_path: Path, protocol: int, order: str) -> None:
    state = as_theirs("paddleseg", network("paddleseg"))
    arrays = {name: np.asfortranarray(value.numpy().astype(order)) for name, value in state.items()}
    file = tmp_path / "model.pdparams"
    file.write_bytes(pickle.dumps(OrderedDict(arrays), protocol=protocol))
    model, _ = convert.converted(file, "auto", CLASSES, SIZE)
    assert close(model, network("paddleseg"))


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_an_empty_array_of_any_protocol_is_read(tmp_path: Path, protocol: int) -> None:
    file = tmp_path / "model.pdparams"
    file.write_bytes(pickle.dumps({"empty": np.zeros((0, 3), np.float32), "full": np.ones(2, np.float32)}, protocol=protocol))
    found = pickles.read(file)
    assert {name: tuple(value.shape) for name, value in found.items()} == {"empty": (0, 3), "full": (2,)}


# What their forward passes give


class Theirs:
    """The layers of another implementation, by the names of its tensors."""

    def __init__(self, state: State, mean: str = "running_mean", variance: str = "running_var") -> None:
        self.state, self.names = state, (mean, variance)

    def norm(self, x: Tensor, conv: str, norm: str, *, relu: bool = True, **more: Any) -> Tensor:
        x = F.conv2d(x, self.state[f"{conv}.weight"], self.state.get(f"{conv}.bias"), **more)
        mean, variance = (self.state[f"{norm}.{name}"] for name in self.names)
        x = F.batch_norm(x, mean, variance, self.state[f"{norm}.weight"], self.state[f"{norm}.bias"], eps=1e-5)
        return F.relu(x) if relu else x

    def last(self, x: Tensor, name: str) -> Tensor:
        return F.conv2d(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])


def tramac_logits(state: State, images: Tensor) -> Tensor:
    """Logits at 1/8 of Tramac's network; its ToTensor and Normalize before, its upsampling to full size left out."""
    net = Theirs(state)
    x = images.permute(0, 3, 1, 2) / 255
    x = (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]

    def separable(x: Tensor, name: str, stride: int = 1) -> Tensor:  # depthwise, norm, ReLU, pointwise, norm, ReLU
        x = net.norm(x, f"{name}.conv.0", f"{name}.conv.1", stride=stride, padding=1, groups=x.shape[1])
        return net.norm(x, f"{name}.conv.3", f"{name}.conv.4")

    def up(x: Tensor, size: torch.Size) -> Tensor:
        return F.interpolate(x, size, mode="bilinear", align_corners=True)

    x = net.norm(x, "learning_to_downsample.conv.conv.0", "learning_to_downsample.conv.conv.1", stride=2)  # no padding
    x = separable(x, "learning_to_downsample.dsconv1", 2)
    skip = x = separable(x, "learning_to_downsample.dsconv2", 2)
    for stage, stride in ((1, 2), (2, 2), (3, 1)):
        for block in range(3):
            name, before = f"global_feature_extractor.bottleneck{stage}.{block}.block", x
            x = net.norm(x, f"{name}.0.conv.0", f"{name}.0.conv.1")
            now = stride if block == 0 else 1
            x = net.norm(x, f"{name}.1.conv.0", f"{name}.1.conv.1", stride=now, padding=1, groups=x.shape[1])
            x = net.norm(x, f"{name}.2", f"{name}.3", relu=False)
            x = x + before if x.shape == before.shape and now == 1 else x
    ppm = "global_feature_extractor.ppm"
    levels = [x]
    for index, bins in ((1, 1), (2, 2), (3, 3), (4, 6)):
        pooled = F.adaptive_avg_pool2d(x, bins)
        levels.append(up(net.norm(pooled, f"{ppm}.conv{index}.conv.0", f"{ppm}.conv{index}.conv.1"), x.shape[2:]))
    x = net.norm(torch.cat(levels, 1), f"{ppm}.out.conv.0", f"{ppm}.out.conv.1")
    x = F.interpolate(x, scale_factor=4, mode="bilinear", align_corners=True)
    x = net.norm(x, "feature_fusion.dwconv.conv.0", "feature_fusion.dwconv.conv.1", padding=1, groups=128)
    x = net.norm(x, "feature_fusion.conv_lower_res.0", "feature_fusion.conv_lower_res.1", relu=False)
    x = F.relu(x + net.norm(skip, "feature_fusion.conv_higher_res.0", "feature_fusion.conv_higher_res.1", relu=False))
    x = separable(separable(x, "classifier.dsconv1"), "classifier.dsconv2")
    return net.last(x, "classifier.conv.1")


def same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """x padded as Paddle's padding="same" does: half of what is missing before, the larger half behind."""
    sums = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[2:]]
    (top, left), (bottom, right) = [total // 2 for total in sums], [total - total // 2 for total in sums]
    return F.pad(x, (left, right, top, bottom))


def paddleseg_logits(state: State, images: Tensor) -> Tensor:
    """Logits at 1/8 of PaddleSeg's network, with the Normalize of its configurations before."""
    net = Theirs(state, "_mean", "_variance")
    x = (images.permute(0, 3, 1, 2) / 255 - 0.5) / 0.5

    def norm(x: Tensor, name: str, **more: Any) -> Tensor:
        return net.norm(x, f"{name}._conv", f"{name}._batch_norm", **more)

    def separable(x: Tensor, name: str, stride: int = 1) -> Tensor:  # no ReLU between its halves
        x = norm(x, f"{name}.depthwise_conv", relu=False, stride=stride, padding=1, groups=x.shape[1])
        return norm(x, f"{name}.piontwise_conv")

    x = norm(same(x, 3, 2), "learning_to_downsample.conv_bn_relu", stride=2)
    x = separable(x, "learning_to_downsample.dsconv_bn_relu1", 2)
    skip = x = separable(x, "learning_to_downsample.dsconv_bn_relu2", 2)
    for stage, stride in ((1, 2), (2, 2), (3, 1)):
        for block in range(3):
            name, before = f"global_feature_extractor.bottleneck{stage}.{block}.block", x
            now = stride if block == 0 else 1
            x = norm(norm(x, f"{name}.0"), f"{name}.1", stride=now, padding=1, groups=6 * before.shape[1])
            x = norm(x, f"{name}.2", relu=False)
            x = x + before if x.shape == before.shape and now == 1 else x
    levels = []
    for index, bins in enumerate((1, 2, 3, 6)):
        level = norm(F.adaptive_avg_pool2d(x, bins), f"global_feature_extractor.ppm.stages.{index}.1")
        levels.append(F.interpolate(level, x.shape[2:], mode="bilinear", align_corners=True))
    x = norm(torch.cat([x, *levels[::-1]], 1), "global_feature_extractor.ppm.conv_bn_relu2", padding=1)
    x = F.interpolate(x, skip.shape[2:], mode="bilinear", align_corners=False)
    x = norm(norm(x, "feature_fusion.dwconv", padding=1, groups=128), "feature_fusion.conv_low_res", relu=False)
    x = F.relu(norm(skip, "feature_fusion.conv_high_res", relu=False) + x)
    x = separable(separable(x, "classifier.dsconv1"), "classifier.dsconv2")
    return net.last(x, "classifier.conv")


def logits_of(model: torch.nn.Module, *given: Tensor) -> Tensor:
    with torch.inference_mode():
        logits = model(*given)
    assert isinstance(logits, Tensor)
    return logits


def picture(height: int, width: int) -> Tensor:
    """Two images [2, height, width, 3], uint8, of large patches and noise, so that features differ from bin to bin."""
    random = torch.Generator().manual_seed(3)
    patches = F.interpolate(torch.rand(2, 3, 3, 5, generator=random), (height, width), mode="nearest")
    noise = torch.rand(2, 3, height, width, generator=random)
    return (200 * patches + 55 * noise).byte().permute(0, 2, 3, 1).contiguous()


@pytest.mark.parametrize(
    ("name", "forward", "size"),
    [
        *(("tramac", tramac_logits, size) for size in ((64, 96), (192, 160), (32, 32))),  # it takes multiples of 32 alone
        *(("paddleseg", paddleseg_logits, size) for size in ((64, 96), (97, 129), (75, 102), (33, 33))),
    ],
)
def test_their_logits_are_reproduced(
    tmp_path: Path, name: str, forward: Callable[[State, Tensor], Tensor], size: tuple[int, int]
) -> None:
    state = as_theirs(name, network(name))
    model, _ = convert.converted(write(tmp_path / "theirs", name, state), name, CLASSES, SIZE)
    images = picture(*size)
    expected = forward(state, images)
    logits = logits_of(model, images)
    assert expected.std() > 0.01
    torch.testing.assert_close(logits, expected, atol=2e-5, rtol=1e-5)
    for other in VARIANTS:  # each variant is one of its own
        if other != name and VARIANTS[other].ppm_kernel == VARIANTS[name].ppm_kernel:
            mistaken = FastSCNN(len(CLASSES), variant=other).eval()
            mistaken.load_state_dict(model.state_dict())
            assert (logits_of(mistaken, images) - expected).abs().max() > 2e-4


@pytest.mark.parametrize("name", ["tramac", "paddleseg"])
@pytest.mark.parametrize("size", [(64, 96), (75, 101), (33, 98)])
def test_the_fused_network_computes_the_same(name: str, size: tuple[int, int]) -> None:
    model = network(name)
    fused = FusedNetwork(model)
    torch.testing.assert_close(logits_of(fused, picture(*size), fused.pooling_matrix(*size)), logits_of(model, picture(*size)),
                               atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(not (PEER.exists() and PEER_PYTHON.exists()), reason="FASTSCNN_MMSEG names no mmsegmentation")
def test_mmsegmentations_own_logits(tmp_path: Path) -> None:
    file = tmp_path / "mmseg.pth"
    subprocess.run([PEER_PYTHON, PEER, "--save-state", file], check=True, capture_output=True)
    pair = torch.load(f"{file}.pair", weights_only=True)
    classes = LabelSet(tuple(f"class {index}" for index in range(19)))
    model, _ = convert.converted(file, "auto", classes, (512, 1024))
    assert (logits_of(model, pair["frame"]) - pair["logits"]).abs().max() < 1e-4


_TRAINING = """
import sys, types
import torch
from mmengine.hooks import EMAHook
from mmengine.logging import MessageHub
state = torch.load(sys.argv[1], weights_only=True)
model = torch.nn.Module()
for name, value in state.items():
    inner = model
    *path, last = name.split(".")
    for part in path:
        if not hasattr(inner, part):
            inner.add_module(part, torch.nn.Module())
        inner = getattr(inner, part)
    if value.is_floating_point():
        inner.register_parameter(last, torch.nn.Parameter(value))
    else:
        inner.register_buffer(last, value)
hub = MessageHub.get_instance("test")
for loss in (1.0, 0.5):
    hub.update_scalar("train/loss", loss)
hook = EMAHook()
hook.before_run(types.SimpleNamespace(model=model))
with torch.no_grad():
    for parameter in model.parameters():
        parameter.add_(1)
saved = {"meta": {"iter": 2}, "state_dict": model.state_dict(), "message_hub": hub.state_dict()}
hook.before_save_checkpoint(None, saved)
torch.save(saved, sys.argv[2])
"""


@pytest.mark.slow
@pytest.mark.skipif(not PEER_PYTHON.exists(), reason="FASTSCNN_MMSEG names no environment with mmsegmentation")
def test_mmengines_own_checkpoint_of_a_training_with_averages(tmp_path: Path) -> None:
    """The averages are used; the log beside them, whose objects are not tensors, is ignored."""
    torch.save(as_theirs("mmseg", network("mmseg")), tmp_path / "state.pth")
    command = [str(PEER_PYTHON), "-c", _TRAINING, str(tmp_path / "state.pth"), str(tmp_path / "iter_2.pth")]
    subprocess.run(command, check=True, capture_output=True)
    assert b"HistoryBuffer" in (tmp_path / "iter_2.pth").read_bytes()
    model, _ = convert.converted(tmp_path / "iter_2.pth", "auto", CLASSES, SIZE)
    assert close(model, network("mmseg"))


# What is refused


def refusal(file: Path, layout: str = "auto", classes: LabelSet = CLASSES) -> str:
    with pytest.raises(FastSCNNError) as caught:
        convert.convert(file, file.parent / "w.safetensors", layout, classes, SIZE)
    assert not (file.parent / "w.safetensors").exists()
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_each_missing_tensor_is_named(tmp_path: Path, layout: str, theirs: State) -> None:
    form = LAYOUTS[layout]
    needed = [name for name in theirs if "num_batches" not in name and not name.startswith(form.auxiliary)]
    assert len(needed) == 5 * len(form.pairs) + sum(pair.bias for pair in form.pairs) + 2
    for name in (*needed[:: len(needed) // 5], *needed[-2:]):
        left = {other: value for other, value in theirs.items() if other != name}
        message = refusal(write(tmp_path / "theirs", layout, left), layout)
        assert f"the tensor {name} of the Fast-SCNN of {form.project} is missing" in message


def test_each_unknown_tensor_is_named(tmp_path: Path, layout: str, theirs: State) -> None:
    more = {**theirs, "backbone.more.weight": torch.zeros(1), "ema_nothing": torch.zeros(1)}
    assert "unexpected tensor backbone.more.weight and 1 more;" in refusal(write(tmp_path / "theirs", layout, more))


def test_both_shapes_are_named(tmp_path: Path, layout: str, theirs: State) -> None:
    name = f"{LAYOUTS[layout].pairs[0].conv}.weight"
    wrong = {**theirs, name: torch.zeros(32, 1, 3, 3)}
    message = refusal(write(tmp_path / "theirs", layout, wrong))
    assert f"the tensor {name} has the shape [32, 1, 3, 3], not [32, 3, 3, 3]" in message


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.full((32,), torch.nan), "contains NaN or infinity"),
        (torch.zeros(32, dtype=torch.int64), "has the dtype torch.int64, which is not floating-point"),
        ("text", "which is a str and not a tensor"),
    ],
)
def test_values_that_are_no_weights(tmp_path: Path, layout: str, theirs: State, value: object, message: str) -> None:
    name = f"{LAYOUTS[layout].pairs[0].norm}.weight"
    refused = refusal(write(tmp_path / "theirs", layout, {**theirs, name: value}))
    assert name in refused
    assert message in refused


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("kind", ["meta", "sparse", "nested"])
@pytest.mark.parametrize("name", [f"{LAYOUTS['mmseg'].pairs[0].norm}.weight", f"{LAYOUTS['mmseg'].last}.weight"])
def test_tensors_that_are_no_arrays(tmp_path: Path, name: str, kind: str) -> None:
    made = {
        "meta": lambda: torch.zeros(32, device="meta"),
        "sparse": lambda: torch.zeros(32).to_sparse(),
        "nested": lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
    }
    torch.save({**as_theirs("mmseg", network("mmseg")), name: made[kind]()}, tmp_path / "x")
    assert f"the tensor {name} is nested, quantised, sparse or without values" in refusal(tmp_path / "x")


def test_another_number_of_classes_names_both(tmp_path: Path, layout: str, theirs: State) -> None:
    message = refusal(write(tmp_path / "theirs", layout, theirs), classes=LabelSet(("road", "sky")))
    assert "has 5 classes" in message
    assert "but 2 are given (road, sky)" in message


def test_another_network_is_one_sentence(tmp_path: Path) -> None:
    state = {"conv1.weight": torch.zeros(64, 3, 7, 7), "decode_head.conv_seg.bias": torch.zeros(5)}
    file = write(tmp_path / "resnet.pth", "mmseg", state)
    end = "; its first tensor is conv1.weight."
    assert refusal(file, "mmseg") == f"{file}: is not a Fast-SCNN of mmsegmentation{end}"
    assert "of mmsegmentation or Tramac/Fast-SCNN-pytorch or PaddleSeg;" in refusal(file)


def test_another_layout_than_asked_for(tmp_path: Path) -> None:
    file = write(tmp_path / "t.pth", "tramac", as_theirs("tramac", network("tramac")))
    assert "is a Fast-SCNN of Tramac/Fast-SCNN-pytorch, not of mmsegmentation; use the layout tramac" in refusal(file, "mmseg")
    with pytest.raises(FastSCNNError, match=r"There is no layout 'tramack'\. Did you mean 'tramac'"):
        convert.convert(file, tmp_path / "w.safetensors", "tramack", CLASSES, SIZE)
    with pytest.raises(FastSCNNError, match="written as safetensors"):
        convert.convert(file, file, "tramac", CLASSES, SIZE)
    with pytest.raises(ArgumentError, match="size: height: must be at least 32, not 16"):
        convert.convert(file, tmp_path / "w.safetensors", "tramac", CLASSES, (16, 64))
    with pytest.raises(ArgumentError, match="at most 40 megapixels"):
        convert.convert(file, tmp_path / "w.safetensors", "tramac", CLASSES, (90000, 90000))
    assert file.stat().st_size > 1000


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80", b"\x80\x04", b"PK\x03\x04 and", b"\x80\x04\x95" + b"\xff" * 40])
def test_what_is_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    assert ": is not a checkpoint" in refusal(tmp_path / "x.pth")


@pytest.mark.parametrize("kept", [0.3, 0.99])
def test_a_truncated_checkpoint(tmp_path: Path, layout: str, theirs: State, kept: float) -> None:
    content = write(tmp_path / "whole", layout, theirs).read_bytes()
    (tmp_path / "part").write_bytes(content[: int(kept * len(content))])
    assert "or is truncated" in refusal(tmp_path / "part")


@pytest.mark.parametrize("kept", range(10, 1200, 23))
def test_a_truncated_checkpoint_of_the_old_format(tmp_path: Path, kept: int) -> None:
    """PyTorch's reader raises errors of many kinds, some without a text."""
    torch.save({"a": torch.ones(600), "b": torch.ones(3)}, tmp_path / "whole", _use_new_zipfile_serialization=False)
    (tmp_path / "part").write_bytes((tmp_path / "whole").read_bytes()[:kept])
    assert refusal(tmp_path / "part").startswith(f"{tmp_path / 'part'}: ")


@pytest.mark.parametrize("content", [[1, 2], {}, 3])
@pytest.mark.parametrize("saved", ["torch", "pickle"])
def test_what_is_no_dictionary_of_tensors(tmp_path: Path, content: object, saved: str) -> None:
    if saved == "torch":
        torch.save(content, tmp_path / "x")
    else:
        (tmp_path / "x").write_bytes(pickle.dumps(content))
    assert ": contains " in refusal(tmp_path / "x")


def test_a_missing_file(tmp_path: Path) -> None:
    assert "cannot be read (No such file" in refusal(tmp_path / "none.pth")


class Runs:
    """An object whose pickle calls a function when it is read."""

    def __init__(self, function: Callable[..., object], *given: object) -> None:
        self.call = function, given

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_plain_pickle_gets_no_attributes(tmp_path: Path, protocol: int) -> None:
    """With getattr, a file reaches every object from the replacements; PyTorch's reader has a harmless one."""
    (tmp_path / "a.pdparams").write_bytes(pickle.dumps({"x": Runs(getattr, "text", "upper")}, protocol=protocol))
    assert "getattr, which is code, not data" in refusal(tmp_path / "a.pdparams")


@pytest.mark.reliability("pickles")
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, f"{os.name}.system"),
        (eval, "eval"),
        (exec, "exec"),
        (open, "open"),
        (os.popen, "os.popen"),
        (np.fromfile, "numpy.fromfile"),
        (__import__, "__import__"),
    ],
)
@pytest.mark.parametrize("saved", ["zip", "legacy", "pickle 2", "pickle 4"])
def test_code_is_refused_by_name_and_not_run(tmp_path: Path, function: Callable[..., object], name: str, saved: str) -> None:
    mark = tmp_path / "mark"
    given = {"open": (str(mark), "w"), "exec": (f"open({str(mark)!r}, 'w')",)}.get(name, (f"touch {mark}",))
    state = {"weight": torch.zeros(3), "x": Runs(function, *given)}
    file = tmp_path / "evil"
    if saved.startswith("pickle"):
        file.write_bytes(pickle.dumps({"x": state["x"]}, protocol=int(saved[-1])))
    else:
        torch.save(state, file, _use_new_zipfile_serialization=saved == "zip")
    message = refusal(file)
    assert name in message
    assert "no code was run" in message
    assert not mark.exists()


def test_arguments_of_a_training_are_ignored(tmp_path: Path) -> None:
    arguments = argparse.Namespace(lr=0.1, data=Path("data"))
    torch.save({"model": as_theirs("mmseg", network("mmseg")), "args": arguments}, tmp_path / "x")
    assert close(convert.converted(tmp_path / "x", "mmseg", CLASSES, SIZE)[0], network("mmseg"))


def test_an_unsafe_pytorch_reads_no_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last version before CVE-2026-24747 was fixed."""
    torch.save({"weight": torch.zeros(3)}, tmp_path / "a.pth")
    monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion("2.9.1"))
    assert "only PyTorch 2.10 or newer reads safely; upgrade PyTorch 2.9.1" in refusal(tmp_path / "a.pth")
    monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion("2.10.0"))
    assert set(pickles.read(tmp_path / "a.pth")) == {"weight"}


def test_the_classes_of_a_training_log_are_never_called(tmp_path: Path) -> None:
    """mmengine's log refers to getattr; a replacement ignores its arguments."""
    state = {**as_theirs("mmseg", network("mmseg")), "x": Runs(getattr, "text", "upper")}
    torch.save(state, tmp_path / "a.pth")
    assert "contains x, which is a _Ignored" in refusal(tmp_path / "a.pth")


@pytest.mark.reliability("pickles")
@pytest.mark.parametrize(
    "stream",
    [
        b"\x80\x02cnumpy\ndtype\n(X\x01\x00\x00\x00ai}tR.",  # a reduce with odd arguments
        b"\x80\x02cnumpy\nndarray\n}b.",  # a state for the class itself
        b"\x80\x02ccollections\nOrderedDict\n(N}X\x01\x00\x00\x00aK\x01stb.",  # attributes for a built-in class
        b"\x80\x02cnumpy\nndarray\n)R(K\x01(K\x03tcnumpy\ndtype\n(X\x02\x00\x00\x00O8tR\x89]tb.",  # an array of objects
        b"\x80\x02cnumpy\nndarray\n)R(K\x01(K\x03tcnumpy\ndtype\n(X\x02\x00\x00\x00f4tR\x89C\x04abcdtb.",  # too few bytes
        b"\x80\x02c_codecs\nencode\n(X\x01\x00\x00\x00aX\x03\x00\x00\x00hextR}b.",  # bytes with a state
        b"\x80\x02X\x01\x00\x00\x00aQ.",  # a persistent object
    ],
)
def test_crafted_pickles_of_allowed_names(tmp_path: Path, stream: bytes) -> None:
    (tmp_path / "x.pdparams").write_bytes(stream)
    refusal(tmp_path / "x.pdparams")


# What it is good for


def nested(depth: int) -> bytes:
    """A pickle whose one key is so many tuples inside one another; hashing it deep enough crashes the interpreter."""
    return b"\x80\x02}(" + b")" + b"\x85" * depth + b"K\x01u."


def archive(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    """A zip file as PyTorch writes it."""
    with zipfile.ZipFile(path, "w", compression) as made:
        for name, content in members.items():
            made.writestr(f"archive/{name}", content)
    return path


@pytest.mark.parametrize("depth", [101, 20_000, 200_000])
@pytest.mark.parametrize("saved", ["pickle", "zip", "legacy"])
def test_nested_too_deep(tmp_path: Path, depth: int, saved: str) -> None:
    path = tmp_path / "deep"
    if saved == "zip":
        archive(path, {"data.pkl": nested(depth)})
    else:
        before = LEGACY + pickle.dumps(1001, 2) + pickle.dumps({}, 2) if saved == "legacy" else b""
        path.write_bytes(before + nested(depth))
    assert refusal(path) == f"{path}: holds values nested more than 100 deep, which is no checkpoint."


@pytest.mark.parametrize("end", [b"K\1s.", b"0cnumpy\ndtype\nh\x3c\x85Rs."], ids=["a key", "a dtype"])
@pytest.mark.parametrize("zipped", [False, True])
def test_values_that_hold_others_twice(tmp_path: Path, zipped: bool, end: bytes) -> None:
    """A tuple of a tuple twice, 60 deep, has 2^60 values for what hashes or prints it."""
    doubled = b"".join(b"q%ch%c\x86" % (place, place) for place in range(60))
    pickled = b"\x80\x02}X\1\0\0\0a" + doubled + b"q\x3c" + end
    path = tmp_path / "doubled"
    if zipped:
        archive(path, {"data.pkl": pickled})
    else:
        path.write_bytes(pickled)
    assert refusal(path) == f"{path}: holds over 5,000,000 values in one, which is no checkpoint."


@pytest.mark.parametrize("number", [b"I0x10\n", b"L0x10L\n"])
def test_a_pickle_that_only_its_reader_follows(tmp_path: Path, number: bytes) -> None:
    """Python's reader takes hexadecimal numbers, `pickletools` does not: what follows them was not checked."""
    path = tmp_path / "deep"
    path.write_bytes(b"\x80\x02" + number + b"0" + nested(200_000)[2:])
    assert ": is not a checkpoint of tensors" in refusal(path)


def test_a_list_that_is_filled_after_it_was_used(tmp_path: Path) -> None:
    """Its first place in another list showed it empty: with 2 instructions for each, lists nested without limit passed."""
    recursive: list[object] = []
    recursive.append(recursive)
    path = tmp_path / "filled"
    path.write_bytes(pickle.dumps(recursive, 2))
    assert "fills a value that is used already, such as one that holds itself" in refusal(path)
    path.write_bytes(b"\x80\x02]q\x00]h\x00a0h\x00" + b"]a" * 2 + b".")  # a list in another one, then filled
    assert "fills a value that is used already" in refusal(path)
    path.write_bytes(b"\x80\x02]2a.")
    assert "duplicates a value (DUP)" in refusal(path)


def test_a_list_remembered_before_it_is_filled(tmp_path: Path) -> None:
    """As Python writes every list: its depth counts where it is taken out of the memo."""
    path = tmp_path / "shared"
    shared: list[object] = []
    for _ in range(60):
        shared = [shared]
    outer: list[object] = [shared]
    for _ in range(60):
        outer = [outer]
    path.write_bytes(pickle.dumps([shared, outer], 2))
    assert "nested more than 100 deep" in refusal(path)


@pytest.mark.parametrize("names", [("data.pkl", "data.pkl"), ("DATA.PKL", "data.pkl"), ("data/0", "data/0")])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name(tmp_path: Path, names: tuple[str, str]) -> None:
    path = tmp_path / "twice"
    with zipfile.ZipFile(path, "w") as made:
        for name, content in zip(names, (nested(20_000), pickle.dumps({})), strict=True):
            made.writestr(f"archive/{name}", content)
    assert "two members of one name" in refusal(path)


def test_an_archive_with_a_second_table_of_members(tmp_path: Path) -> None:
    """Python reads the table in front of the end of the file, and PyTorch the one whose place the end states."""
    one, two = (archive(tmp_path / name, {"data.pkl": pickle.dumps({name: 1}, 2), "version": b"3"}).read_bytes()
                for name in ("one", "two"))
    path = tmp_path / "both"
    path.write_bytes(one[:-22] + two)  # without the end of the first; both ends state the same place
    assert torch.load(path, weights_only=True) == {"one": 1}
    assert "contains two, which is a int" in refusal(path)


@pytest.mark.parametrize("stream", [b"r\xff\xff\xff\x7f", b"N" + b"p2147483647\n"])
def test_a_memo_that_would_fill_the_memory(tmp_path: Path, stream: bytes) -> None:
    path = tmp_path / "memo"
    path.write_bytes(b"\x80\x02N" + stream + b".")
    assert "remembers value 2,147,483,647 of" in refusal(path)


def test_too_many_instructions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_limits, "MAX_INSTRUCTIONS", 1000)
    path = tmp_path / "long"
    path.write_bytes(b"\x80\x02" + b"N0" * 1000 + b"}.")
    assert "has over 1,000 instructions, which is no checkpoint" in refusal(path)


def test_an_archive_that_unpacks_to_far_more(tmp_path: Path) -> None:
    path = archive(tmp_path / "bomb", {"data.pkl": pickle.dumps({}), "data/0": bytes(50_000_000)}, zipfile.ZIP_DEFLATED)
    assert "unpacks to 0.1 GB, which is no checkpoint" in refusal(path)


def test_torchscript_is_named(tmp_path: Path) -> None:
    path = archive(tmp_path / "net.pt", {"data.pkl": pickle.dumps({}), "code/__torch__/net.py": b"", "constants.pkl": b""})
    message = refusal(path)
    assert message.startswith(f"{path}: is a TorchScript archive, which holds code; save the state dict")
    assert "weights_only" not in message


@pytest.mark.parametrize("prefix", ["model.", "net.", "_orig_mod.", "module.model."])
def test_what_contains_the_network_is_taken_off(tmp_path: Path, layout: str, theirs: State, prefix: str) -> None:
    outer = write(tmp_path / "inside", layout, {f"{prefix}{name}": value for name, value in theirs.items()})
    assert close(convert.converted(outer, "auto", CLASSES, SIZE)[0], network(layout))


@pytest.mark.slow
def test_it_segments_exports_and_evaluates_as_our_own(tmp_path: Path, layout: str, theirs: State) -> None:
    weights, exported = tmp_path / "w.safetensors", tmp_path / "w.onnx"
    convert.convert(write(tmp_path / "theirs", layout, theirs), weights, "auto", CLASSES, SIZE)
    pipeline.export(weights, exported)  # which verifies it at three sizes
    assert stem.suits(onnx.load(exported)) == (layout == "mmseg")  # in int8, the others' first convolution reads no bytes
    image = picture(75, 101)[0].numpy()
    ours, other = (Segmenter.load(path).segment(image).labels for path in (weights, exported))
    assert (ours == other).mean() > 0.999
    images.write(tmp_path / "images" / "a.png", image)
    images.write(tmp_path / "labels" / "a.png", ours)
    named = ", ".join(f'"{name}"' for name in CLASSES.names)
    toml = f'name = "d"\nclasses = [{named}]\n[splits.test]\nimages = "images/*.png"\nlabels = "labels/{{stem}}.png"\n'
    (tmp_path / "dataset.toml").write_text(toml)
    spec = datasets.load(str(tmp_path))
    assert evaluate_pairs(Segmenter.load(weights), spec, spec.pairs("test")).to_dict()["miou"] == 100


def test_at_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A checkpoint of Cityscapes' 19 classes to a weight file that labels a picture."""
    from fastscnn import cli
    from fastscnn.data import synthetic
    from fastscnn.data.builtin import cityscapes
    from fastscnn.media import images

    model = FastSCNN(19, variant="mmseg").eval()
    file, out = write(tmp_path / "theirs.pth", "mmseg", as_theirs("mmseg", model)), tmp_path / "ours.safetensors"
    words = ["convert", str(file), "--out", str(out), "--classes", "cityscapes", "--size", "96x128"]
    assert cli.main(words) == 0
    assert "variant mmseg, 19 classes" in capsys.readouterr().out
    card = checkpoint.load(out)[1]
    assert (card.label_set.names, card.size) == (cityscapes.LABELS.names, (96, 128))
    images.write(tmp_path / "street.png", synthetic.draw(96, 128).image)
    assert cli.main(["segment", str(tmp_path / "street.png"), "--weights", str(out), "--out", str(tmp_path / "seen")]) == 0
    assert cli.main([*words, "--from", "tramac"]) == 1
    assert "use the layout mmseg" in capsys.readouterr().err
    assert cli.main([*words[:-3], "citiscapes"]) == 1
    assert "classes: " in capsys.readouterr().err


def test_another_protocol_of_pickles_is_named(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "new.pth", pickle_protocol=4)
    with pytest.raises(FastSCNNError, match=r"new\.pth: .* pickle_protocol is above 2, .* save it with 2"):
        pickles.read(tmp_path / "new.pth")
