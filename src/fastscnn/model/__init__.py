"""What is a Fast-SCNN, and what does a weight file say of itself?"""
