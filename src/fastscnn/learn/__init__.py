"""Training and all else that needs PyTorch; nothing outside this room imports torch."""
