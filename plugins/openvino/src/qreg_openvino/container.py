"""A program of two files, the graph and the weights, as one sequence of bytes.

A magic word, the lengths of both, the sum of what follows, then the graph and the weights.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

from qreg.errors import InputError

GRAPH, WEIGHTS = ".xml", ".bin"
MAGIC = b"qreg-openvino-1\n"
HEAD = struct.Struct("<QQI")


def join(files: Mapping[str, bytes]) -> bytes:
    """The program that two files are.

    Raises ``InputError`` for a graph that is no XML of a network.
    """
    graph, weights = files[GRAPH], files[WEIGHTS]
    if b"<net " not in graph[:1000]:
        raise InputError(f"the {GRAPH} file is no OpenVINO IR: it has no <net> in it")
    content = graph + weights
    return MAGIC + HEAD.pack(len(graph), len(weights), zlib.crc32(content)) + content


def split(program: bytes) -> dict[str, bytes]:
    """The content of the files of a program, by suffix.

    Raises ``InputError`` for what is no such program, is cut short or was changed.
    """
    start = len(MAGIC) + HEAD.size
    if not program.startswith(MAGIC) or len(program) < start:
        raise InputError(f"it is no program of backend 'openvino': {len(program):,} bytes")
    graph, weights, sum_ = HEAD.unpack_from(program, len(MAGIC))
    content = program[start:]
    if len(content) != graph + weights:
        raise InputError(
            f"the OpenVINO program is cut short: {len(content):,} bytes of {graph + weights:,}"
        )
    if zlib.crc32(content) != sum_:
        raise InputError("the OpenVINO program is damaged: its checksum does not fit")
    return {GRAPH: content[:graph], WEIGHTS: content[graph:]}
