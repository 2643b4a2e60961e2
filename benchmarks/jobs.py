"""How jobs scale with processes, what a job costs besides its work, and what travels.

``python benchmarks/jobs.py [--jobs N] [--seconds S] [--workers N ...]`` runs jobs of equal length
in one process and in several, which have been started before, and prints the ratio of their times.
A job sleeps for half of its time and computes for the other half. With ``--sleep`` it only sleeps,
so that the ratio shows the overhead alone, also on a busy machine. Then it prints the time of a job
without work, whose argument has the given size, and what a model costs to pack as it travels.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from attrs import frozen

from qreg.jobs.packing import packed_program, unpacked_program
from qreg.jobs.running import in_order
from qreg.utils.tables import print_table

MEGABYTES = (0, 1, 10, 100)


@frozen
class Work:
    """A job: seconds of sleep, then products of matrices, a fixed number of them."""

    sleep: float
    products: int = 0


def work(job: Work) -> None:
    time.sleep(job.sleep)
    factor = torch.ones(256, 256)
    for _ in range(job.products):
        factor = (factor @ factor).clamp_(max=1)


def size(job: bytes) -> int:
    return len(job)


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def products_in(seconds: float) -> int:
    """The number of products that one thread computes in this time."""
    torch.set_num_threads(1)
    return round(100 * seconds / min(timed(lambda: work(Work(0, 100))) for _ in range(3)))


def scaling(jobs: Sequence[Work], workers: Sequence[int]) -> None:
    rows: list[dict[str, float]] = []
    for count in (1, *workers):
        for _ in range(2):  # starts the processes, each of which gets a job and imports torch
            in_order(work, [Work(1)] * count, workers=count)
        seconds = timed(lambda count=count: in_order(work, jobs, workers=count))
        rows.append({"processes": count, "seconds": round(seconds, 2)})
    for row in rows:
        row["times one"] = round(rows[0]["seconds"] / row["seconds"], 2)
    print_table(rows)


def overhead() -> None:
    rows = []
    for megabytes in MEGABYTES:
        jobs = [bytes(megabytes << 20)] * 8
        times = [timed(lambda jobs=jobs: in_order(size, jobs, workers=2)) / 8 for _ in range(3)]
        ms = round(1000 * statistics.median(times), 1)
        rows.append({"MB of a job": megabytes, "ms for a job": ms})
    print_table(rows)


def travels(width: int = 1024, layers: int = 16) -> None:
    model = torch.nn.Sequential(*(torch.nn.Linear(width, width) for _ in range(layers)))
    program = torch.export.export(model.eval(), (torch.zeros(1, width),))
    data = packed_program(program)
    times = timed(lambda: packed_program(program)), timed(lambda: unpacked_program(data))
    pack, unpack = (round(1000 * each) for each in times)
    row = {"MB of a model": len(data) >> 20, "ms to pack": pack, "ms to unpack": unpack}
    print_table([row])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--workers", type=int, nargs="+", default=[2])
    parser.add_argument("--sleep", action="store_true")
    given = parser.parse_args()
    half = given.seconds / 2
    job = Work(given.seconds) if given.sleep else Work(half, products_in(half))
    scaling([job] * given.jobs, given.workers)
    overhead()
    travels()


if __name__ == "__main__":
    import jobs  # functions of __main__ would be pickled by value

    jobs.main()
