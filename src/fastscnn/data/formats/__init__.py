"""How are annotation files read?"""
