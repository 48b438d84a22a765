"""How accurate are the labels?"""
