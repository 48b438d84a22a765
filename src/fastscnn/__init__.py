"""Fast-SCNN: the label of every pixel of a street scene, in real time.

    import fastscnn
    segmenter = fastscnn.Segmenter.load()
    labels = segmenter.segment(image).labels    # uint8 [H, W, 3] RGB in, uint8 [H, W] out
"""

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.datasets import load as load_dataset
from fastscnn.evaluation.evaluate import evaluate
from fastscnn.inference.segmentation import Segmentation
from fastscnn.inference.segmenter import Segmenter
from fastscnn.model.card import Card
from fastscnn.model.label_set import LabelSet
from fastscnn.version import __version__

__all__ = ["Card", "FastSCNNError", "LabelSet", "Segmentation", "Segmenter", "__version__", "evaluate", "load_dataset"]
