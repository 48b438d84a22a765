"""How are weights shared? Read from a repository of the Hugging Face Hub (`hf://OWNER/NAME`), and uploaded to one."""
