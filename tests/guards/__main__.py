"""Takes the guards of INVARIANTS.md away, one by one, and demands that a test fails each time.

    scripts/test.sh python -m guards [--only 5] [--check]

Works on a copy of the tree, with build output of its own. `--check` only looks whether
every guard is still where the list says."""

import argparse
import os
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tideway"
TREE, OUTPUT = CACHE / "guards-tree", CACHE / "guards-target"


def guards(only):
    listed = tomllib.loads((Path(__file__).parent / "guards.toml").read_text())["guard"]
    return [guard for guard in listed if only in (None, guard["promise"])]


def changes(guard):
    return [[guard["file"], guard["find"], guard["replace"]], *guard.get("also", [])]


def misplaced(guard, tree):
    """Why the guard cannot be taken away."""
    for file, find, _ in changes(guard):
        found = (tree / file).read_text().count(find)
        if found != 1:
            yield f"{file}: {found} times there: {find.strip().splitlines()[0]}"


def run(*command, **options):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def copy():
    """Makes the copy like the tree. Files that are alike keep their times, so that a build begins
    where the last one ended; all others get new ones, so that no mutant is taken for the program."""
    files = {Path(name) for name in run("git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard", check=True).stdout.splitlines()}
    for there in TREE.rglob("*"):
        if there.is_file() and there.relative_to(TREE) not in files:
            there.unlink()
    for name in files:
        here, there = (ROOT / name).read_bytes(), TREE / name
        if not there.exists() or there.read_bytes() != here:
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_bytes(here)
            shutil.copymode(ROOT / name, there)


def tested(guard):
    """Builds and runs the guard's tests: whether it built, whether they passed, and the output."""
    folder = next(part for part in (TREE / guard["file"]).parents if (part / "Cargo.toml").exists())
    package = guard.get("package") or tomllib.loads((folder / "Cargo.toml").read_text())["package"]["name"]
    environment = os.environ | {"CARGO_TARGET_DIR": str(OUTPUT)}
    build = run("cargo", "test", "--no-run", "--package", package, cwd=TREE, env=environment)
    if build.returncode:
        return False, False, build.stdout
    nextest = run(ROOT / "scripts/install/nextest.sh").stdout.strip().splitlines()[-1]
    done = run(nextest, "nextest", "run", "--package", package, "--no-fail-fast", "-E", guard["tests"], cwd=TREE, env=environment)
    # 4: the filter picks no test at all.
    return done.returncode != 4, done.returncode == 0, done.stdout


def taken_away(guard):
    """What is wrong with the guard, if anything."""
    try:
        for file, find, replace in changes(guard):
            path = TREE / file
            path.write_text(path.read_text().replace(find, replace))
        ran, passed, output = tested(guard)
    finally:
        copy()
    if not ran:
        return "does not build, or no such test:\n" + "\n".join(output.splitlines()[-30:])
    # A test that hangs or is killed proves nothing.
    failed = sorted({line.split(") ")[-1] for line in output.splitlines() if " FAIL [" in line})
    if passed or not failed:
        return "nothing noticed" if passed else "no test failed by what it asserts"
    print("    " + "\n    ".join(failed[:4]) + (f"\n    and {len(failed) - 4} more" if len(failed) > 4 else ""))
    return None


def main():
    parser = argparse.ArgumentParser(prog="guards", description=__doc__)
    parser.add_argument("--only", type=int, help="the guards of this promise")
    parser.add_argument("--check", action="store_true")
    said = parser.parse_args()
    listed = guards(said.only)
    lost = [reason for guard in listed for reason in misplaced(guard, ROOT)]
    if said.check or lost:
        sys.exit("\n".join(lost) or 0)
    copy()
    wrong, begun = [], time.monotonic()
    for guard in listed:
        name = f"{guard['promise']}. {guard['what']}"
        print(name, flush=True)
        reason = taken_away(guard)
        if reason:
            wrong.append(name)
            print(f"    WRONG: {reason}", flush=True)
    # As pytest ends, for scripts/test.sh.
    print(f"=== {len(listed) - len(wrong)} passed, {len(wrong)} failed in {time.monotonic() - begun:.1f}s ===")
    sys.exit(f"{len(wrong)} of {len(listed)} guards are not missed: {', '.join(wrong)}" if wrong else 0)


if __name__ == "__main__":
    main()
