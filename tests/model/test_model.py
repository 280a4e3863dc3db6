"""The model test as a part of the others: a fixed start, so that it finds the same everywhere. run.py is the command."""

import pathlib
import subprocess
import sys
import time

import pytest

RUN = pathlib.Path(__file__).with_name("run.py")


def run(*arguments):
    done = subprocess.run([sys.executable, RUN, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-5000:]


@pytest.mark.alone
def test_sequences():
    """200 of 200 steps, or as many as fit into 100 seconds."""
    run("--sequences", 200, "--steps", 200, "--seed", 1, "--seconds", 100)


@pytest.mark.long
def test_other_sequences():
    """As many as fit into ten minutes, others each time; the seed of one that fails is printed."""
    run("--sequences", 10000, "--steps", 200, "--seed", int(time.time()), "--seconds", 600)
