"""How does one network teach another? Soft labels: class probabilities of a teacher, in files beside a dataset."""
