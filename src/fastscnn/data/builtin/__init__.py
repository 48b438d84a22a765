"""Which datasets are known by name?"""
