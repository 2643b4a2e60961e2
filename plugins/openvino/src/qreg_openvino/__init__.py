"""OpenVINO for qreg: configs, annotators, the lowering to OpenVINO IR, and the CPU runtime."""
