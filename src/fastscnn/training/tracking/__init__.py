"""Which experiment trackers record a training? One module each; `record` calls them."""
