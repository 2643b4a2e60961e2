"""Run a program, compare it with its models, and judge the result."""
