"""Measurements on models and programs for the report."""
