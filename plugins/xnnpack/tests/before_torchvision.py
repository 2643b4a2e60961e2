"""Declares what ``torchvision`` may need to be imported; import this module first.

The wheel of torchvision on PyPI is built for CUDA. Next to a torch without CUDA its operators do
not load, and its import fails for want of two of them. No model of the tests calls them.
"""

from __future__ import annotations

import torch

SUPPRESSION = ("nms", "qnms")

try:
    import torchvision as torchvision
except RuntimeError:
    LIBRARY = torch.library.Library("torchvision", "FRAGMENT")  # the declarations end with it
    for each in SUPPRESSION:
        LIBRARY.define(f"{each}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
