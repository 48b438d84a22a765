"""What dataset lies in a folder, and what is its dataset.toml?"""
