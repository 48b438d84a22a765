"""How do a dataset's authors score?"""
