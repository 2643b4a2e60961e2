"""The report: its values, and its forms as text, page and overlay."""
