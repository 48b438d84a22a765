"""How is a network pretrained on whole images?"""
