"""Which values of a recipe score best?"""
