"""Which labelled images are there, and are they sound?"""
