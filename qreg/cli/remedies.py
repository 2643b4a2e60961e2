"""Remedies worded for the command line, with options in place of lines of code."""

from __future__ import annotations

import re

SETTER = r"set_(?:module_name|operator_type)\((\"[^\"]*\"|\.\.\.), None\)"
LINE = re.compile(rf"(?:quantizer\.)?{SETTER}(?:\.{SETTER})*")
TRANSFORM = re.compile(r"pass transform=lambda batch: (.+)\.$", re.MULTILINE)
EXPLAIN = re.compile(r"qreg\.(explain|quantize)\(model, example_inputs, (.*)\)")
QUOTED = re.compile("'([^']*)': 'int8'")
TENSORS = re.compile(r"Pass io=\{([^}]*)\}")
ALONE = r"save the inputs alone, torch.save([\1 for batch in batches], FILE)."
IN_OPTIONS = {
    "give every batch that size; a DataLoader drops a smaller last one with drop_last=True": (
        "give every batch that size, with --batch-size for arrays, images and lines"
    ),
    'Pass algorithms="auto"': "Pass --algorithms auto",
    "Pass more batches, or algorithms=().": "Pass more batches, or omit --algorithms.",
    "pass calibration=[(x,), ...], a tuple of input tensors for each batch, or choose a dynamic "
    "config": (
        "pass --calibration FILE, a list of tuples of input tensors that torch.save wrote, or "
        "choose a dynamic --config"
    ),
    "with budget=, a larger max_drop=,": "with --budget, a larger --max-drop,",
    "pass allow_float=True to continue in float": "pass --allow-float to continue in float",
    "qreg.explain with sensitivity=True shows them": "`qreg explain --sensitivity` shows them",
    ", or create the quantizer with unknown_modules='warn' to ignore it.": ".",
}


def as_options(message: str) -> str:
    """Return a message with command-line options in place of lines of code."""
    for code, option in IN_OPTIONS.items():
        message = message.replace(code, option)
    message = TRANSFORM.sub(ALONE, message)
    message = EXPLAIN.sub(_explain, message)
    message = TENSORS.sub(_tensors, message)
    return LINE.sub(lambda line: " ".join(map(_option, re.findall(SETTER, line[0]))), message)


def _explain(call: re.Match[str]) -> str:
    """Return the command of a call, with the flags of its arguments that are True."""
    flags = "".join(f" --{name}" for name in re.findall(r"(\w+)=True", call[2]))
    algorithms = " --algorithms auto" if 'algorithms="auto"' in call[2] else ""
    return f"qreg {call[1]} MODEL --calibration FILE{algorithms}{flags}"


def _tensors(names: re.Match[str]) -> str:
    """Return the option for inputs and outputs that are to be integers."""
    return f"Pass --io {','.join(QUOTED.findall(names[1]))}"


def _option(scope: str) -> str:
    return f"--float {'NAME' if scope == '...' else scope}".replace('"', "")
