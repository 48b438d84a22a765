"""Target coreml: an .mlpackage for Core ML on Apple devices, in float32 or float16.

It takes `image`, an RGB image of fixed size (`CVPixelBuffer`; other channels than three: `images`, float32
[1, channels, H, W] of 0 to 255), and returns `logits`, float32 [1, classes, H/8, W/8], or `labels`, int32 [1, H, W]. The card
is in the user-defined metadata. Core ML itself runs on Apple's systems only. Everywhere, the program in the package is
computed operator by operator in PyTorch (`mil`) and compared.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fastscnn.exporting.quiet import quiet
from fastscnn.exporting.targets.target import Exported, Runner, Target, needs
from fastscnn.model import card
from fastscnn.model.card import Card


def _write(exported: Exported, path: Path) -> None:
    import torch

    with quiet("coremltools"):
        import coremltools

    from fastscnn.network.static import StaticNetwork

    form, size, channels = exported.form, exported.form.static, exported.card.channels
    assert size is not None  # Target.static
    network = StaticNetwork(exported.network, size, (form.output_size or size) if form.output == "labels" else None)
    shape = (1, channels, *size)
    as_image = {"shape": shape, "color_layout": coremltools.colorlayout.RGB}
    taken = (coremltools.ImageType("image", **as_image) if channels == 3 else coremltools.TensorType("images", shape=shape))
    half = form.precision == "float16"
    with quiet("coremltools"):
        program = torch.export.export(network, (torch.zeros(shape),)).run_decompositions({})
        package = coremltools.convert(
            program,
            inputs=[taken],
            outputs=[coremltools.TensorType(form.output)],
            minimum_deployment_target=coremltools.target.iOS15,
            compute_precision=coremltools.precision.FLOAT16 if half else coremltools.precision.FLOAT32,
        )
        described = replace(exported.card, precision=form.precision, content_sha256="")
        package.user_defined_metadata[card.KEY] = described.to_json()
        package.save(str(path))


def _load(path: Path, _: Card) -> Runner:
    """Return the program in the package, computed in PyTorch."""
    from fastscnn.exporting.targets import mil

    return mil.runner(path)


TARGET = Target(
    name="coreml",
    suffix=".mlpackage",
    what="Core ML package for iOS 15, macOS 12 and later",
    check=lambda: needs("coreml", "coremltools", "coremltools>=9,<10", (9,), (10,)),
    write=_write,
    load=_load,
    outputs=("logits", "labels"),
    precisions=("float32", "float16"),
    own_precisions=("float16",),
    static=True,
    runtime="PyTorch operator by operator, not by Core ML",
)
