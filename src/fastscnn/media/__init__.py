"""How are images and videos found, read and written?"""
