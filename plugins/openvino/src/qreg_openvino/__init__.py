"""OpenVINO for qreg: configs, annotators, the lowering to IR and the runtime on the CPU."""
