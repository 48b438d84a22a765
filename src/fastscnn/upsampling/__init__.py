"""How do logits at 1/8 become full-size labels?"""
