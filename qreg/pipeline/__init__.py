"""The public functions: quantize, explain, lower, prepare, calibrate, verify."""
