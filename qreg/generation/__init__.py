"""Text from a quantized language model, in the runtime of its backend."""
