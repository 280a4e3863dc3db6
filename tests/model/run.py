#!/usr/bin/env python3
"""Random sequences of steps on a mount, against a model of it. `--help` says how long; a failure prints a script.

    run.py                                        200 sequences of 200 steps, two at a time
    run.py --sequences 10000 --steps 200          the long run
    run.py --seed 17 --sequences 1                one again
"""

import argparse
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "mount"), str(HERE.parent / "apiserver")]

from drive import Late, Sequence  # noqa: E402
from model import Mismatch  # noqa: E402
from rig import Rig  # noqa: E402
from shrink import shrink  # noqa: E402

SELECTOR = ("app", "x")


class Runner:
    """One server, one mount, and the sequences that they serve."""

    def __init__(self, selector=None):
        self.selector = selector
        self.number = 0
        self.rig = self.start()

    def start(self):
        return Rig(arguments=("-l", "=".join(self.selector)) if self.selector else ())

    def attempt(self, run, wait=True):
        """What was wrong (None: nothing), and the steps that were made."""
        self.number += 1
        sequence = Sequence(self.rig, f"n{self.number}", self.selector)
        try:
            sequence.begin()
            run(sequence)
            sequence.end(wait)
            error = None
        except Mismatch as why:
            error = str(why)
        except Late:
            error = "late"
        if self.rig.is_broken():
            error = f"a process ended: {error}"
            self.restart()
        else:
            sequence.clean()
        return error, sequence.done

    def restart(self):
        self.rig.kill()
        self.rig = self.start()


def run_some(arguments):
    """Those of one process: exit status 1 where something was wrong."""
    runner = Runner(SELECTOR if arguments.selector else None)
    try:
        return run_seeds(runner, arguments)
    except BaseException:
        runner.rig.kill()  # its threads and processes would keep this one
        raise


def run_seeds(runner, arguments):
    selector = runner.selector
    begin, late, failed = time.monotonic(), 0, False
    for seed in range(arguments.seed, arguments.seed + arguments.sequences):
        error, steps = runner.attempt(lambda one, seed=seed: one.random(seed, arguments.steps), seed % 10 == 0)
        late += error == "late"
        if error and error != "late":
            failed = True
            print(f"seed {seed}: {error}", flush=True)
            report(runner, steps, error, arguments.shrink)
            break
        if arguments.seconds and time.monotonic() - begin > arguments.seconds:
            break
    print(f"seeds {arguments.seed} to {seed}{' with -l' if selector else ''}: "
          f"{time.monotonic() - begin:.0f} s, {late} too late to judge", flush=True)
    left = runner.rig.stop()
    if left:
        print(left)
    return 1 if failed or left else 0


def fails(runner, steps):
    """Whether the steps alone are wrong, too; a try that came too late counts for nothing."""
    error = "late"
    for _ in range(3):
        if error == "late":
            error, _ = runner.attempt(lambda one: one.replay(steps), False)
    return None if error == "late" else error


def kind_of(error):
    """By what two failures count as the same: the step's operation and what was wrong with it."""
    return re.sub(r"step \d+, \('(\w+)'.*?\): ", r"\1 ", error or "").split(" ")[0:1]


def report(runner, steps, found, seconds):
    """The shortest form, as a script."""
    steps = shrink(steps, lambda some: kind_of(fails(runner, some)) == kind_of(found), seconds)
    error = fails(runner, steps)
    print(f"in {len(steps)} steps: {error or 'not again: it depends on the time'}\n")
    print(SCRIPT.format(here=str(HERE), selector=runner.selector,
                        steps="".join(f"    {step!r},\n" for step in steps)), flush=True)


SCRIPT = """#!/usr/bin/python3
import sys
sys.path.insert(0, {here!r})
import run
run.script({selector!r}, [
{steps}])
"""


def script(selector, steps):
    """What a printed script calls."""
    runner = Runner(selector)
    error, _ = runner.attempt(lambda one: one.replay(steps))
    print(error or "nothing is wrong")
    runner.rig.stop()
    sys.exit(1 if error else 0)


def run_side_by_side(arguments):
    """The seeds in as many parts as there are jobs; the last job's mount has a selector."""
    share = -(-arguments.sequences // arguments.jobs)
    command = [sys.executable, __file__, "--jobs", "1", "--steps", str(arguments.steps), "--shrink", str(arguments.shrink)]
    jobs = []
    for job in range(arguments.jobs):
        first, number = arguments.seed + job * share, min(share, arguments.sequences - job * share)
        parts = [(first, number, [])] if job + 1 < arguments.jobs else [
            (first, number - number // 2, []), (first + number - number // 2, number // 2, ["--selector"])]
        seconds = ["--seconds", str(arguments.seconds / len(parts))] if arguments.seconds else []
        script = [[*command, *seconds, "--seed", str(seed), "--sequences", str(count), *more]
                  for seed, count, more in parts if count]
        jobs.append(threading.Thread(target=run_all, args=(script, arguments.results)))
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    return max(arguments.results, default=0)


def run_all(commands, results):
    for command in commands:
        results.append(subprocess.run(command, check=False).returncode)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=200)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--seconds", type=float, help="no sequence is begun later")
    parser.add_argument("--jobs", type=int, default=2, help="processes, each with a server and a mount")
    parser.add_argument("--selector", action="store_true", help="a mount with -l app=x")
    parser.add_argument("--shrink", type=float, default=120, metavar="SECONDS", help="how long a failure is shortened")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the mount ends with this
    if arguments.jobs <= 1:
        return run_some(arguments)
    arguments.results = []
    return run_side_by_side(arguments)


if __name__ == "__main__":
    sys.exit(main())
