"""Tokens per second of a Llama with random weights: qreg next to executorch's own path.

``python benchmarks/decoding.py [--layers N] [--width N] [--cache N] [--configs int8,int4]
[--threads 1,2] [--rounds N]`` prints a row for each config and number of threads: the length of the
program, and the tokens per second of a prompt of ``PROMPT`` tokens in one call and of single tokens
after it. The programs of a config run alternately; the time of each call is the least of all
rounds, so that other work on the machine counts less. Trust the ratios.

- int8: ``int8_dynamic_per_channel`` next to ``quantize_`` with int8 weights per channel
- int4: ``int4_dynamic_groupwise`` next to ``quantize_`` with 4-bit weights in groups of 32
- int4 and embedding: the same with ``int8_weight_per_channel`` for the embedding; executorch's
  path for it is the int4 one

The program "custom attention" is qreg's for a model that calls executorch's operator for attention.
"""

from __future__ import annotations

import argparse
import copy
import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import EdgeCompileConfig, ExecutorchBackendConfig, to_edge_transform_and_lower
from executorch.exir.passes.init_mutable_pass import InitializedMutableBufferPass
from torch import Tensor, nn
from torchao.quantization import Int8DynamicActivationIntxWeightConfig, quantize_
from torchao.quantization.granularity import PerAxis, PerGroup
from torchao.utils import unwrap_tensor_subclass
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.integrations.executorch import TorchExportableModuleForDecoderOnlyLM

import qreg
from qreg.plugins.registry import installed
from qreg.utils.tables import print_table
from qreg_xnnpack import use_custom_attention

PROMPT, NEW = 64, 32
EXAMPLE = {"input_ids": torch.tensor([[1, 2, 3]]), "cache_position": torch.arange(3)}
Run = Callable[[Sequence[Tensor]], tuple[Tensor, ...]]


def decoder(layers: int, width: int, cache: int, *, custom: bool = False) -> nn.Module:
    """Return a Llama with a cache of ``cache`` positions, and four queries for each key."""
    torch.manual_seed(0)
    heads = width // 64
    config = LlamaConfig(
        vocab_size=8192,
        hidden_size=width,
        intermediate_size=width * 3,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 4),
        max_position_embeddings=cache,
        use_cache=True,
    )
    model = LlamaForCausalLM(config).eval()
    if custom:
        use_custom_attention(model)
    model.generation_config.cache_implementation = "static"
    found: nn.Module = TorchExportableModuleForDecoderOnlyLM(
        model, batch_size=1, max_cache_len=cache
    ).model
    return found


def shapes(cache: int) -> dict[str, Any]:
    length = torch.export.Dim("length", max=cache - 1)
    return {"input_ids": {1: length}, "cache_position": {0: length}}


def ours(model: nn.Module, cache: int, config: str, embedding: str | None) -> bytes:
    quantizer = qreg.get_quantizer("xnnpack", config)
    if embedding:
        quantizer.set_module_type(nn.Embedding, embedding)
    options: dict[str, Any] = {"dynamic_shapes": shapes(cache), "progress": False}
    return qreg.quantize(model, EXAMPLE, quantizer=quantizer, **options).program


def theirs(model: nn.Module, cache: int, dtype: torch.dtype, granularity: Any) -> bytes:
    """Return the program of ``quantize_``, export and the partitioner."""
    changed = copy.deepcopy(model)
    quantize_(
        changed,
        Int8DynamicActivationIntxWeightConfig(weight_dtype=dtype, weight_granularity=granularity),
    )
    changed = unwrap_tensor_subclass(changed)
    with torch.no_grad():
        program = torch.export.export(
            changed, (), EXAMPLE, dynamic_shapes=shapes(cache), strict=True
        )
    edge = to_edge_transform_and_lower(
        program,
        partitioner=[XnnpackPartitioner()],
        compile_config=EdgeCompileConfig(_check_ir_validity=False),
    )
    signature = edge.exported_program().graph_signature
    written = set(signature.buffers_to_mutate.values())
    caches = [name for name, each in signature.inputs_to_buffers.items() if each in written]
    passes = [InitializedMutableBufferPass(caches)]
    return bytes(edge.to_executorch(ExecutorchBackendConfig(passes=passes)).buffer)


def speeds(programs: dict[str, bytes], threads: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Return the tokens per second of the prompt and of new tokens, for each program."""
    backend = installed().backend("xnnpack").value
    assert backend.load is not None
    load = partial(backend.load, threads=threads)
    least = {name: [math.inf] * (1 + NEW) for name in programs}
    for _ in range(rounds):
        for name, program in programs.items():
            least[name] = list(map(min, least[name], _timed(load(program))))
    return {name: (PROMPT / prompt, NEW / sum(new)) for name, (prompt, *new) in least.items()}


def _timed(run: Run) -> Iterator[float]:
    """Yield the seconds of the prompt, and of each new token."""
    tokens = torch.randint(0, 8192, (1, PROMPT))
    run((tokens[:, :1], torch.arange(1)))  # the first call packs weights
    calls = [(tokens, torch.arange(PROMPT))]
    calls += [(tokens[:, :1], torch.tensor([PROMPT + number])) for number in range(NEW)]
    for each in calls:
        begun = time.perf_counter()
        run(each)
        yield time.perf_counter() - begun


CONFIGS: dict[str, tuple[str, str | None, torch.dtype, Any]] = {
    "int8": ("int8_dynamic_per_channel", None, torch.int8, PerAxis(0)),
    "int4": ("int4_dynamic_groupwise", None, torch.int4, PerGroup(32)),
    "int4 and embedding": (
        "int4_dynamic_groupwise",
        "int8_weight_per_channel",
        torch.int4,
        PerGroup(32),
    ),
}


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--cache", type=int, default=256)
    parser.add_argument("--configs", default=",".join(CONFIGS))
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    cache, rows = given.cache, []
    model = decoder(given.layers, given.width, cache)
    custom = decoder(given.layers, given.width, cache, custom=True)
    for name in given.configs.split(","):
        config, embedding, dtype, granularity = CONFIGS[name]
        programs = {
            "qreg": ours(model, cache, config, embedding),
            "qreg, custom attention": ours(custom, cache, config, embedding),
            "executorch": theirs(model, cache, dtype, granularity),
        }
        for threads in map(int, given.threads.split(",")):
            rows += [
                {
                    "config": name,
                    "program": maker,
                    "MB": f"{len(programs[maker]) / 1e6:.1f}",
                    "threads": threads,
                    "prompt, tokens/s": f"{prompt:.0f}",
                    "new, tokens/s": f"{new:.1f}",
                }
                for maker, (prompt, new) in speeds(programs, threads, given.rounds).items()
            ]
    print_table(rows)


if __name__ == "__main__":
    main()
