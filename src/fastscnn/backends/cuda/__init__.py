"""How does the network run on an NVIDIA GPU?"""
