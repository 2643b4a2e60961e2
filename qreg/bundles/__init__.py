"""Bundles: folders with a program and what is known of it, which need no model to be used.

``manifest`` has what is in a folder, ``contents`` what is written, ``bundle`` what is read.
"""
