"""A plan: what is synced, what is written meanwhile and what goes wrong, all drawn from a seed."""

import random
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Ways to read, with the destinations that take what comes of them, and how often each is drawn.
# `stream` follows PostgreSQL's log and `binlog` MySQL's, `track` reads by a tracking field, `scan`
# and `mysql` read everything each time.
PAIRS = {
    ("stream", "postgresql"): 10,
    ("stream", "sqlite"): 4,
    ("stream", "duckdb"): 4,
    ("stream", "s3"): 3,
    ("stream", "files"): 2,
    ("stream", "mysql"): 4,
    ("track", "postgresql"): 4,
    ("track", "sqlite"): 1,
    ("track", "mysql"): 2,
    ("track", "files"): 1,
    ("scan", "postgresql"): 4,
    ("scan", "duckdb"): 2,
    ("scan", "mysql"): 2,
    ("scan", "s3"): 1,
    ("binlog", "postgresql"): 6,
    ("binlog", "sqlite"): 2,
    ("binlog", "mysql"): 2,
    ("mysql", "postgresql"): 3,
    ("mysql", "sqlite"): 1,
}
MODES = {
    "stream": {"replicate": 8, "append": 1},
    "track": {"replicate": 2, "append": 2},
    "scan": {"replicate": 3, "snapshot": 2},
    "binlog": {"replicate": 1},
    "mysql": {"replicate": 3, "snapshot": 2},
}
NETWORKED = {"postgresql", "mysql", "s3"}
ON_DISK = {"sqlite", "duckdb", "files"}


@cache
def failpoints() -> list[str]:
    """All places in the product, so that none is forgotten here."""
    files = (file for room in ("*", "connectors/*") for file in ROOT.glob(f"{room}/src/**/*.rs"))
    code = (file.read_text() for file in files)
    return sorted({name for text in code for name in re.findall(r'failpoint::reach\("([a-z.-]+)"\)', text)})


@dataclass
class Fault:
    kind: str
    # Seconds after the run has begun, and for how long.
    at: float
    lasts: float = 0.0
    how: dict = field(default_factory=dict)

    def __str__(self):
        how = "".join(f" {key}={value}" for key, value in self.how.items())
        return f"{self.at:.2f}s {self.kind}{how}" + (f" for {self.lasts:.2f}s" if self.lasts else "")


@dataclass
class Plan:
    seed: int
    reads: str
    destination: str
    mode: str
    soft: bool
    servers: int
    # What the process is started with each time it is, until they are used up.
    failpoints: list[str]
    faults: list[Fault]
    seconds: float
    writers: int
    # After the faults the process is started anew, instead of finding its way by itself.
    restarts: bool
    clock: bool

    @property
    def insert_only(self) -> bool:
        return self.mode == "append"

    @property
    def keeps_history(self) -> bool:
        return self.mode == "replicate" and self.destination not in ("s3", "files") and self.seed % 2 == 0

    @property
    def continuous(self) -> bool:
        return self.streams and self.seed % 3 != 0

    @property
    def streams(self) -> bool:
        return self.reads in ("stream", "binlog")

    def __str__(self):
        lines = [
            f"seed {self.seed}: {self.reads} into {self.destination}, {self.mode}"
            f"{', soft deletes' if self.soft else ''}{', history' if self.keeps_history else ''}{', continuous' if self.continuous else ''},"
            f" {self.servers} server{'s' if self.servers > 1 else ''}, {self.writers} writers"
        ]
        lines += [f"  failpoint {one}" for one in self.failpoints]
        lines += [f"  {fault}" for fault in self.faults]
        return "\n".join(lines)


def pick(rng, weighted: dict):
    return rng.choices(list(weighted), list(weighted.values()))[0]


def draw(seed: int, only: str | None = None) -> Plan:
    rng = random.Random(seed)
    pairs = {pair: weight for pair, weight in PAIRS.items() if not only or only in "/".join(pair)}
    reads, destination = pick(rng, pairs)
    mode = pick(rng, MODES[reads])
    seconds = rng.uniform(2.5, 5.0)
    servers = 2 if rng.random() < 0.25 else 1
    # Two processes cannot share a file database: one would find it locked.
    servers = 1 if destination in ("duckdb", "sqlite") else servers
    clock = servers == 1 and rng.random() < 0.12
    plan = Plan(
        seed=seed,
        reads=reads,
        destination=destination,
        mode=mode,
        soft=mode == "replicate" and reads != "track" and rng.random() < 0.3,
        servers=servers,
        failpoints=armed(rng, reads, destination),
        faults=[],
        seconds=seconds,
        writers=rng.choice([1, 2, 3]),
        restarts=rng.random() < 0.5,
        clock=clock,
    )
    kinds = faults_of(plan)
    for _ in range(rng.randint(1, 4)):
        plan.faults.append(fault(rng, pick(rng, kinds), plan))
    if clock:
        plan.faults.append(fault(rng, "clock", plan))
    plan.faults.sort(key=lambda one: one.at)
    return plan


def armed(rng, reads, destination) -> list[str]:
    """Failpoints that this plan can pass, each with what happens there."""
    rooms = {"stream": ("stream.", "unit."), "track": (), "binlog": ("stream.", "unit."), "scan": (), "mysql": ()}[reads]
    rooms += ("load.", "work.e", {"postgresql": "postgres.", "s3": "files."}.get(destination, f"{destination}."))
    places = [name for name in failpoints() if name.startswith(rooms)]
    if reads == "stream":
        places += [name for name in failpoints() if name.startswith(("postgres.s", "postgres.pub", "postgres.anch", "work.a"))]
    else:
        places = [name for name in places if not name.startswith(("postgres.s", "postgres.pub", "postgres.anch"))]
    chosen = []
    for _ in range(rng.choice([0, 1, 1, 2, 2, 3, 4])):
        action = pick(rng, {"kill": 8, "pause": 2, "panic": 1})
        late = rng.choice([1, 1, 1, 2, 3, 5, 8, 20])
        chosen.append(f"{rng.choice(places)}={action}@{late}")
    return chosen


def faults_of(plan) -> dict:
    kinds = {"kill": 6, "term": 1, "pause": 2}
    kinds |= {"cut": 3, "stall": 2, "slow": 1, "deaf": 3, "source down": 2, "sessions ended": 2}
    if plan.destination in ("postgresql", "mysql"):
        kinds["destination down"] = 2
    if plan.destination in ON_DISK:
        kinds["disk full"] = 6
    if plan.reads == "stream" and not plan.insert_only:
        kinds |= {"slot dropped": 1, "slot invalidated": 1, "slot rewound": 2}
    return kinds


def fault(rng, kind, plan) -> Fault:
    one = Fault(kind, at=rng.uniform(0.0, plan.seconds * 0.9))
    if kind in ("cut", "stall", "slow", "deaf"):
        ends = ["source"] + (["destination"] * 2 if plan.destination in NETWORKED else [])
        one.how["end"] = rng.choice(ends)
    if kind == "clock":
        one.how["by"] = rng.choice([-86_400, -7_200, -20, -3, 3, 20, 600, 86_400])
    if kind in ("kill", "term", "pause"):
        one.how["server"] = rng.randrange(plan.servers)
    if kind == "pause":
        # Now and then for longer than the lease lasts.
        one.lasts = rng.choice([rng.uniform(0.2, 1.0), rng.uniform(2.2, 3.0)])
    elif kind not in ("kill", "term", "sessions ended", "clock", "slot dropped", "slot invalidated", "slot rewound"):
        one.lasts = rng.uniform(0.1, 1.8)
    if kind == "kill":
        one.how["down"] = round(rng.choice([0.0, rng.uniform(0.0, 1.0)]), 2)
    return one
