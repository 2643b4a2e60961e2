"""ONNX Runtime for qreg: configs, annotators, the lowering to ONNX, and the CPU runtime."""

import qreg

if "hookimpl" not in dir(qreg):
    raise ImportError(
        "qreg is another library of that name (expected qreg-core). Run `pip uninstall qreg`, then "
        "`pip install --force-reinstall --no-deps qreg-core`."
    )
