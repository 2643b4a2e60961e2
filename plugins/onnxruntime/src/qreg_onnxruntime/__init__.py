"""ONNX Runtime for qreg: configs, annotators, the lowering to ONNX and the runtime on the CPU."""
