"""The command line.

Heavy modules are imported where they are used, so that listing does not import torch.
"""
