"""How is an image segmented?"""
