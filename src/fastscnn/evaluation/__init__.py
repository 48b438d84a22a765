"""How good are the labels?"""
