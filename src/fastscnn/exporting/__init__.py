"""How does a trained network become a file that runs anywhere?"""
