"""Importing executorch reads its table of operators with a parser in C, which halves the import."""

from __future__ import annotations

from importlib import resources

from executorch.exir.dialects import edge
from executorch.exir.dialects.edge import _ops  # executorch 1.4.1
from ruamel.yaml import YAML

OPERATORS = 20  # of about a thousand, since the parser in Python takes seconds for all


def test_executorch_parses_its_table_with_the_parser_of_clib() -> None:
    assert "YAML" in _ops._load_edge_dialect_info.__code__.co_names
    assert _ops.YAML(typ="safe").Parser.__module__ == "ruamel.yaml.clib._ruamel_yaml"


def test_the_table_is_the_one_that_python_parses() -> None:
    text = (resources.files(edge) / "edge.yaml").read_text(encoding="utf-8")
    start = "\n\n".join(text.split("\n\n")[: OPERATORS + 1])
    read = YAML(typ="safe", pure=True).load(start)
    assert len(read) > OPERATORS / 2
    assert [_ops._edge_dialect_info[each["inherits"]] for each in read] == read
