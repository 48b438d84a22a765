"""What does every other folder rely on? Errors, argument checks, types, files, the machine."""
