"""Annotations: labels as polygons in the files of annotation tools, so that people can correct them."""
