"""A program of two files, the graph and the weights, as one sequence of bytes.

Layout: a magic word, the lengths of both files, the CRC-32 of their content, the graph, the
weights.
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
    """Join the graph file and the weights file to one program.

    Raises ``InputError`` if the graph file is not the XML of a network.
    """
    graph, weights = files[GRAPH], files[WEIGHTS]
    if b"<net " not in graph[:1000]:
        raise InputError(f"the {GRAPH} file is not OpenVINO IR: it has no <net> element")
    content = graph + weights
    return MAGIC + HEAD.pack(len(graph), len(weights), zlib.crc32(content)) + content


def split(program: bytes) -> dict[str, bytes]:
    """Return the content of the files of a program, by suffix.

    Raises ``InputError`` if the program is not an OpenVINO program, is cut short or was changed.
    """
    start = len(MAGIC) + HEAD.size
    if not program.startswith(MAGIC) or len(program) < start:
        raise InputError(f"it is not a program of backend 'openvino': {len(program):,} bytes")
    graph, weights, sum_ = HEAD.unpack_from(program, len(MAGIC))
    content = program[start:]
    if len(content) != graph + weights:
        raise InputError(
            f"the OpenVINO program is cut short: {len(content):,} bytes of {graph + weights:,}"
        )
    if zlib.crc32(content) != sum_:
        raise InputError("the OpenVINO program is damaged: its checksum does not match")
    return {GRAPH: content[:graph], WEIGHTS: content[graph:]}
