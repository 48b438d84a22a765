"""Time mmsegmentation's Fast-SCNN in its own environment. Run as a script by that environment's Python.

    python mmseg_worker.py HEIGHT WIDTH CLASSES THREADS (default|tuned)

Prints the version of mmsegmentation when ready. Then, for each input line N, prints a JSON list with the milliseconds of N
frames. A frame is timed from uint8 RGB in memory to full-size labels, as in mmsegmentation's
tools/analysis_tools/benchmark.py.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # from its config


def build(classes: int) -> Any:
    """Return the model of its Fast-SCNN config, with plain batch norm: SyncBN needs a GPU."""
    import mmseg
    import mmseg.models
    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    init_default_scope("mmseg")
    config = next((Path(mmseg.__file__).parent / ".mim" / "configs" / "fastscnn").glob("*.py"))
    model = Config.fromfile(config).model
    for part in (model.backbone, model.decode_head, *model.auxiliary_head):
        part.norm_cfg.type = "BN"
    for head in (model.decode_head, *model.auxiliary_head):
        head.num_classes = classes
    return MODELS.build(model).eval()


def labeller(height: int, width: int, classes: int, tuned: bool) -> Callable[[], object]:
    """Return a function that labels one frame; `tuned`: channels_last memory and bfloat16."""
    import torch

    model = build(classes)
    frame = torch.randint(0, 256, (1, height, width, 3), dtype=torch.uint8)
    mean, std = (torch.tensor(values)[None, :, None, None] for values in (_MEAN, _STD))
    size = (height, width)
    meta = [{"ori_shape": size, "img_shape": size, "pad_shape": size}]
    if tuned:
        model = model.to(memory_format=torch.channels_last)

    def label() -> object:
        # A channels-last view: convolutions run faster on it than on mmsegmentation's own channels-first copy, and the
        # comparison must not slow mmsegmentation down.
        image = (frame.permute(0, 3, 1, 2).float() - mean) / std
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=tuned):
            return model.encode_decode(image, meta).argmax(1)

    return label


def main() -> None:
    """Answer requests until the input ends."""
    sys.path.remove(str(Path(__file__).parent))  # Python puts it first, and it has a module mmseg of ours
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    height, width, classes, threads = (int(word) for word in sys.argv[1:5])
    answers, sys.stdout = sys.stdout, sys.stderr  # output of libraries must not mix with the answers
    import mmseg
    import torch

    torch.set_num_threads(threads)
    label = labeller(height, width, classes, sys.argv[5] == "tuned")
    label()
    answers.write(json.dumps(mmseg.__version__) + "\n")
    answers.flush()
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = perf_counter()
            label()
            times.append(1e3 * (perf_counter() - start))
        answers.write(json.dumps(times) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
