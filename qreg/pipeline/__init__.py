"""What users call: quantize, explain, lower, prepare, calibrate, verify."""
