"""ONNX Runtime for qreg: configs, annotators, the lowering to ONNX, and the CPU runtime."""
