"""Bundles: folders with a program and what is known of it, which need no model to be used.

``writing`` and ``reading`` write and check the files that ``manifest`` lists; ``bundle`` is what
was read.
"""
