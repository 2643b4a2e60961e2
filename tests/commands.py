"""Run the commands of the command line in this process."""

from __future__ import annotations

import re

import torch
from click.testing import CliRunner, Result
from torch import Tensor

from qreg.cli.main import main


def batches() -> list[tuple[Tensor]]:
    torch.manual_seed(1)
    return [(torch.randn(8, 4),) for _ in range(3)]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


def succeeded(*arguments: object) -> str:
    """What a command prints; faults of installed plugins are on standard error."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def failed(*arguments: object) -> str:
    """The message of a command that fails as it should: exit code 1, and no traceback."""
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    message = re.search(r"^Error: .*", result.output, re.MULTILINE | re.DOTALL)
    assert message, result.output
    return message[0]
