"""Remedies in the words of the command line: options in place of lines of code."""

from __future__ import annotations

import re

SETTER = r"set_(?:module_name|operator_type)\((\"[^\"]*\"|\.\.\.), None\)"
LINE = re.compile(rf"(?:quantizer\.)?{SETTER}(?:\.{SETTER})*")
IN_OPTIONS = {
    "qreg.explain with numerics=True shows them": "`qreg explain --numerics` shows them",
    ", or make the quantizer with unknown_modules='warn' to go on without it.": ".",
}


def as_options(message: str) -> str:
    """A message with options of the command line in place of lines of code."""
    for code, option in IN_OPTIONS.items():
        message = message.replace(code, option)
    return LINE.sub(lambda line: " ".join(map(_option, re.findall(SETTER, line[0]))), message)


def _option(scope: str) -> str:
    return f"--float {'NAME' if scope == '...' else scope}".replace('"', "")
