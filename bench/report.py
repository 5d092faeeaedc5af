"""What was measured, as a page."""

import datetime
import statistics

from contenders import BASELINES, CONTENDERS, baseline

# How many times the baseline's time each may take, and how much memory: what the project promises.
BOUNDS = {
    "mixed": [
        ("tideway", "psql-text", 2.0, 200),
        ("tideway", "psql-binary", 1.1, 256),
        ("tideway-parquet", "sling-parquet", 1.0, 200),
    ],
    "mysql": [("tideway", "sling", 1 / 3, 200)],
}


def spread(values, digits=2):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def ratios(runs, name, baseline):
    """Round by round, so that a machine that slows down slows both."""
    return [a.wall / b.wall for a, b in zip(runs[name], runs.get(baseline, []))]


def table(result, kind):
    against, rows = baseline(result["shape"], kind), result["shape"].all_rows()
    lines = [
        f"| {kind} | wall s | rows/s | times {against} | client CPU s | rows per client CPU s | server CPU s "
        "| peak MiB | same values | |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, runs in result["runs"].items():
        if CONTENDERS[name].kind != kind or not runs:
            continue
        compared = ratios(result["runs"], name, against)
        cells = [
            name,
            spread([run.wall for run in runs]),
            f"{statistics.median(rows / run.wall for run in runs):,.0f}",
            spread(compared) if compared else "",
            spread([run.cpu for run in runs]),
            f"{statistics.median(rows / max(run.cpu, 0.001) for run in runs):,.0f}",
            spread([run.server_cpu for run in runs]),
            spread([run.memory for run in runs], 0),
            "/".join(sorted({run.same for run in runs})),
            "; ".join(sorted({run.note for run in runs})),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n" if len(lines) > 2 else ""


def bounds(result):
    """The promises are about the table of many types."""
    lines = []
    for name, against, bound, memory in BOUNDS.get(result["name"], []):
        compared = ratios(result["runs"], name, against) if name in result["runs"] else []
        if compared:
            ratio, peak = statistics.median(compared), max(run.memory for run in result["runs"][name])
            kept = "kept" if ratio <= bound and peak < memory else "MISSED"
            lines.append(
                f"- {name}: {ratio:.2f} times {against} (bound {bound:.2g}), "
                f"{peak:.0f} MiB at most (bound {memory}): {kept}"
            )
    return "\n".join(lines) + "\n" if lines else ""


def section(result):
    shape = result["shape"]
    many = f"{len(shape.tables)} tables of " if len(shape.tables) > 1 else ""
    head = f"## {result['name'].capitalize()}: {shape.what}\n\n{many}{shape.rows:,} rows, {result['size']:.0f} MB.\n"
    dropped = [f"- {name} was dropped: it {why}." for name, why in result["dropped"].items()]
    parts = [head, *[table(result, kind) for kind in BASELINES], bounds(result), "\n".join(dropped)]
    return "\n".join(part for part in parts if part)


def report(results, about, missing):
    sections = "\n".join(section(result) for result in results)
    raw = [
        f"| {result['name']} | {i + 1} | {name} | {run.wall:.2f} | {run.cpu:.2f} | {run.server_cpu:.2f} | {run.memory:.0f} |"
        for result in results
        for name, runs in result["runs"].items()
        for i, run in enumerate(runs)
    ]
    left_out = f"\nNot installed, left out: {', '.join(missing)}." if missing else ""
    return f"""# Bench of {datetime.date.today()}

{about}.{left_out}
Medians, with the range in brackets; ratios within a round. Method: [bench/README.md](../README.md).

{sections}
## Observations

To be written by whoever ran it: what surprised, what was busy beside it.

## Every run

| shape | round | contender | wall s | client CPU s | server CPU s | peak MiB |
|---|---|---|---|---|---|---|
""" + "\n".join(raw) + "\n"
