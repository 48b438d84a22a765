"""How do images and videos come in and go out?"""
