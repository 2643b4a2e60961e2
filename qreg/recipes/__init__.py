"""Recipes: how a program was made, in files that make it again."""
