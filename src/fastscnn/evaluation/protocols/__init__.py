"""How do the authors of a dataset score?"""
