"""fs/SEMANTICS.md: every claim has a test, and every test that it names is there."""

import pathlib
import re

TOP = pathlib.Path(__file__).resolve().parents[2]


def claims():
    """Each item of the lists, as one line."""
    text = (TOP / "fs/SEMANTICS.md").read_text()
    for item in re.split(r"^- ", text, flags=re.MULTILINE)[1:]:
        yield re.sub(r"\s+", " ", re.split(r"\n\n|\n#", item)[0])


def is_there(test):
    """A function of a Python file, or of a C program's."""
    path, _, name = test.partition("::")
    source = (TOP / "tests" / path).read_text()
    return re.search(rf"^(def {name}\(|static void {name}\(void \*\*state\))", source, re.MULTILINE)


def test_every_claim_has_a_test():
    found = 0
    for claim in claims():
        tests = re.findall(r"`([\w/]+\.(?:py|c)::\w+)`", claim)
        assert tests, claim
        for test in tests:
            assert is_there(test), test
        found += 1
    assert found > 50
