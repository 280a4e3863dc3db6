"""The short form of the model test: the long one is `run.py --sequences 10000 --steps 200`."""

import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.long

RUN = pathlib.Path(__file__).with_name("run.py")


def test_sequences():
    """200 of 200 steps, or as many as fit into four minutes."""
    done = subprocess.run([sys.executable, RUN, "--sequences", "200", "--steps", "200", "--seed", "1", "--seconds", "110"],
                          capture_output=True, text=True, check=False, timeout=1200)
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-5000:]
