"""What does everything else rest on? Errors, types, files, the machine."""
