"""Reports to look at: one HTML page each for scores, a training and a dataset, with nothing outside the file."""
