"""convert: a checkpoint of another implementation as a weight file of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from fastscnn.base.errors import FastSCNNError
from fastscnn.cli.console import STDOUT
from fastscnn.cli.flags import learning, parse_classes, parse_size


def convert(
    file: tyro.conf.Positional[Path],
    *,
    out: Path,
    classes: str,
    layout: Annotated[str, tyro.conf.arg(name="from")] = "auto",
    size: str = "1024x2048",
) -> int:
    """Take over a checkpoint of mmsegmentation, Tramac's Fast-SCNN-pytorch or PaddleSeg. No code in it is run.

    Args:
        file: Its .pth or .pdparams file.
        out: The .safetensors file to write.
        classes: What its logits mean: cityscapes, or a dataset as for --data elsewhere.
        layout: mmseg, tramac, paddleseg, or auto, which looks at the names of the tensors.
        size: Of the input that it was trained for, HxW; it runs at any.
    """
    foreign = learning("convert", "convert")
    trained = parse_size(size)
    if not isinstance(trained, tuple):
        raise FastSCNNError(f"size: of a network's training is HxW, not {size!r}.")
    card = foreign.convert(file, out, layout, parse_classes(classes), trained)
    STDOUT.print(f"wrote {out}: variant {card.variant}, {len(card.label_set)} classes", soft_wrap=True)
    STDOUT.print(f"Next: fastscnn export {out} --out {out.with_suffix('.onnx')}", soft_wrap=True)
    return 0
