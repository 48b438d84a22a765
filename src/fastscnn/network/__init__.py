"""What is the network in PyTorch?"""
