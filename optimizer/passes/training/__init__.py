"""What the training passes share: an ONNX graph as a PyTorch module and back, channel groups, losses and the training loop.

Modules that import torch are imported where they are needed only.
"""
