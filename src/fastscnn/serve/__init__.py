"""How are images segmented over HTTP? A service with a bounded queue, on the Segmenter that `segment` uses."""
