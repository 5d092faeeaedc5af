"""`python -m crash 17 42`: those seeds; `--count 50 --from 7`: so many from there on."""

import argparse
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from .plan import draw
from .run import Run
from .systems import Lane


def carry_out(seeds, at_once=2, only=None, say=print) -> list[str]:
    """Runs the plans of these seeds, some at a time; what went wrong."""
    lanes, local = [], threading.local()

    def one(seed):
        if not hasattr(local, "lane"):
            local.lane = Lane()
            lanes.append(local.lane)
        plan = draw(seed, only)
        run = Run(plan, local.lane)
        trouble = run()
        say(f"{'FAILED' if trouble else 'ok'} {str(plan).splitlines()[0]} ({', '.join(run.notes)})")
        return trouble

    try:
        with ThreadPoolExecutor(at_once) as pool:
            return [trouble for trouble in pool.map(one, seeds) if trouble]
    finally:
        for lane in lanes:
            lane.close()


def main():
    parser = argparse.ArgumentParser(prog="crash", description=__doc__)
    parser.add_argument("seeds", nargs="*", type=int)
    parser.add_argument("--from", dest="first", type=int, default=1, help="the first seed")
    parser.add_argument("--count", type=int, default=10, help="how many seeds")
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--only", help="such as stream/duckdb, or mysql; other plans than without")
    parser.add_argument("--show", action="store_true", help="print the plans, and run nothing")
    said = parser.parse_args()
    seeds = said.seeds or range(said.first, said.first + said.count)
    if said.show:
        for seed in seeds:
            print(draw(seed, said.only))
        return
    troubles = carry_out(seeds, said.at_once, said.only)
    for trouble in troubles:
        print(f"\n{trouble}")
    sys.exit(f"{len(troubles)} of {len(seeds)} plans failed" if troubles else 0)


if __name__ == "__main__":
    main()
