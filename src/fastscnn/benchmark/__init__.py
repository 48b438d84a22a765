"""How fast is the network on this machine, and how much computation does it need?"""
