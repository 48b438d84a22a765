"""How do trained weights become an ONNX file that runs without PyTorch?"""
