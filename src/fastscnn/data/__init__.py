"""Which labelled images exist, and are they valid?"""
