"""What is measured on a model or a program for the report."""
