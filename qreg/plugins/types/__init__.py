"""The values that plugins return and the host passes on; none imports torch."""
