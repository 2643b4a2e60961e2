"""Running a program, and its verdict."""
