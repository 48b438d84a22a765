"""What do scores, a training run or a dataset look like? Each as one self-contained HTML page."""
