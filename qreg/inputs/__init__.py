"""The inputs of a model: forms of batches, names, devices and arrays, and remedies for misfits."""
