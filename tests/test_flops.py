"""FLOPs: the counts equal those of the PyTorch network."""

from __future__ import annotations

import pytest

from fastscnn.benchmark.flops import cost, layers
from fastscnn.model.card import Card
from fastscnn.model.label_set import LabelSet


def described(variant: str = "paper", width: float = 1.0, classes: int = 19, channels: int = 3) -> Card:
    names = tuple(f"class {index}" for index in range(classes))
    return Card(LabelSet(names), (64, 96), variant, channels, width)


@pytest.mark.parametrize(("variant", "macs"), [("paper", 6.71e9), ("mmseg", 7.25e9)])
def test_published_macs(variant: str, macs: float) -> None:
    assert cost(described(variant), (1024, 2048), "float32").macs == pytest.approx(macs, rel=1e-3)


def test_bytes_follow_the_precision() -> None:
    counted = {precision: cost(described(), (1024, 2048), precision).bytes for precision in ("float32", "bfloat16", "int8")}
    assert counted["float32"] == 2 * counted["bfloat16"] == 4 * counted["int8"]


@pytest.mark.parametrize(
    ("variant", "width", "classes", "channels", "size"),
    [
        ("paper", 1, 19, 3, (128, 256)),
        ("mmseg", 1, 11, 3, (250, 333)),
        ("paper", 2, 2, 4, (64, 97)),
        ("tramac", 1, 5, 3, (75, 98)),
        ("paddleseg", 1, 5, 3, (75, 98)),
        ("paper", 0.3, 3, 1, (32, 33)),
    ],
)
def test_every_layer_against_pytorch(variant: str, width: float, classes: int, channels: int, size: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    from fastscnn.network.fast_scnn import FastSCNN

    model = FastSCNN(classes, channels, variant, width).eval()
    run: list[tuple[int, int]] = []

    def count(module: object, inputs: tuple[object, ...], output: object) -> None:
        weight, (image,) = module.weight, inputs  # type: ignore[attr-defined]
        values = image.numel() + output.numel() + weight.numel()  # type: ignore[attr-defined]
        run.append((output.numel() * weight[0].numel(), values))  # type: ignore[attr-defined]

    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    with torch.inference_mode():
        model(torch.zeros(1, *size, channels, dtype=torch.uint8))
    expected = [(layer.macs, layer.values) for layer in layers(described(variant, width, classes, channels), size)]
    assert run == expected
