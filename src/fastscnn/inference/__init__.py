"""How is an image segmented? Segmenter, Segmentation, temporal smoothing."""
