"""The report: its values, and how it is written as text, page and overlay."""
