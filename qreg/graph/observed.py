"""Move observers with what they observed from one prepared graph to another."""

from __future__ import annotations

import copy
from collections import defaultdict

from torch import nn
from torch.fx import GraphModule

from qreg.graph.prepared import observers

Values = frozenset[str]
RANGE = ("dtype", "qscheme", "quant_min", "quant_max")
SPEC = (*RANGE, "ch_axis", "group_size", "signed_scales")


def take_observers(prepared: GraphModule, calibrated: GraphModule) -> bool:
    """Replace the observers of a prepared graph by copies of a calibrated graph's.

    The graphs compute the same, and fewer operators may be annotated in the first. Returns False,
    and changes nothing, if an observer has no counterpart with the same spec that observes the same
    values, alone or with others, or if a graph has bodies, such as those of loops.
    """
    if _has_bodies(prepared) or _has_bodies(calibrated):
        return False
    known = _by_values(calibrated)
    wanted = _by_values(prepared)
    if not all(values in known and _alike(new, known[values]) for values, new in wanted.items()):
        return False
    copies = {id(new): copy.deepcopy(known[values]) for values, new in wanted.items()}
    for node, module in observers(prepared).items():
        prepared.set_submodule(str(node.target), copies[id(module)])
    return True


def _has_bodies(model: GraphModule) -> bool:
    return any(isinstance(each, GraphModule) for each in model.children())


def _by_values(model: GraphModule) -> dict[Values, nn.Module]:
    """Return each observer by the names of all values that it observes."""
    names: dict[int, set[str]] = defaultdict(set)
    modules: dict[int, nn.Module] = {}
    for node, module in observers(model).items():
        names[id(module)].add(node.all_input_nodes[0].name)
        modules[id(module)] = module
    found = {frozenset(values): modules[key] for key, values in names.items()}
    return found if len(found) == len(modules) else {}  # two observe the same values


def _alike(one: nn.Module, other: nn.Module) -> bool:
    return type(one) is type(other) and all(
        getattr(one, name, None) == getattr(other, name, None) for name in SPEC
    )
