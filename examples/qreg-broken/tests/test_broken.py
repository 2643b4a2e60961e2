"""The installed example: it is named with its fault, and takes nothing else down."""

from __future__ import annotations

import json
import warnings

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import qreg
from qreg.cli.main import main
from qreg.plugins.manager import PluginWarning
from qreg.testing import PluginConformance

SAYS = "plugin 'broken_example' .* 'qreg-broken-example' 0.1.0 is broken, in qreg_annotators"


class OfBroken(PluginConformance):
    """Not called Test: this plugin does not pass."""

    plugin = "broken_example"
    backend = "xnnpack"


def test_it_is_named_with_its_hook_and_the_others_work() -> None:
    registry = qreg.Registry()
    with pytest.warns(PluginWarning, match=SAYS):
        names = [supplied.value.name for supplied in registry.annotators("xnnpack")]
    assert "linear" in names
    assert "half" not in names


def test_a_model_is_quantized_next_to_it() -> None:
    x = torch.randn(2, 8)
    with pytest.warns(PluginWarning, match="broken on purpose"):
        result = qreg.quantize(nn.Linear(8, 4), x, calibration=[x], registry=qreg.Registry())
    assert result.decided == {"annotated": 1}


def test_the_list_says_what_is_wrong_with_it() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PluginWarning)
        rows = json.loads(CliRunner().invoke(main, ["list", "--json"]).stdout)
    broken = {row["plugin"]: row["broken"] for row in rows}
    assert "broken on purpose" in broken["broken_example"]
    assert broken["xnnpack"] == ""


def test_disabled_it_says_nothing() -> None:
    registry = qreg.Registry(disable=["broken_example"])
    registry.examine()  # a warning would be an error here
    assert registry.annotators("xnnpack")


def test_the_suite_catches_it() -> None:
    with pytest.raises(AssertionError, match="skips the plugin: in qreg_annotators"):
        OfBroken().test_it_is_accepted()
