"""What tools and the mount did with each other: RESULTS.md, written by the tests that measure it.

A run replaces the cells that it measured and keeps the others, in their order; so a run of a few
tests is fine, and what changed is what git shows. Remove the file to start over.
"""

import contextlib
import fcntl
import os
import pathlib

PATH = pathlib.Path(__file__).with_name("RESULTS.md")
INTRODUCTION = """\
# Tools on the mount

Written by the tests beside it. A cell says what happened on the mount; behind a slash between blanks, what the tool does
on ext4 when the same call fails there. Without one it's the same.

- `ok` saved; `asked` the tool asked the user before it wrote
- `err` the tool said that it failed; `dirty` the text is still in the tool, which won't quit without asking; `clean` it quits
- `SILENT` the tool said nothing, or that all was well, though nothing was saved
- `/old`, `/new`, `/mine`, `/theirs` what the file then shows: what was there or what was typed; in a conflict the user's text
  or the other's
- `kept` the text that wasn't saved stands in NAME.rejected beside the file, the reason in NAME.error (editors: always)
- `left` what stands beside the file when the tool is gone
"""
_tables = {}  # kind: {tool: {case: cell}}; the case "why" is the last column


def record(kind, tool, case, outcome, ext4, note=""):
    """One cell: kind names the table. A note says why ours is worse, or else what is remarkable."""
    with _locked():  # editors and writers are measured beside each other
        _tables.clear()
        _load()
        _set(_tables.setdefault(kind, {}).setdefault(_plain(tool), {}), case, outcome, ext4, note)
        _write()


@contextlib.contextmanager
def _locked():
    fd = os.open(PATH.parent, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _set(row, case, outcome, ext4, note):
    row[case] = _plain(outcome if outcome == ext4 else f"{outcome} / {ext4}")
    notes = {one.partition(": ")[0]: one for one in row.get("why", "").split("; ") if one}
    notes.pop(case, None)
    if note:
        notes[case] = f"{case}: {_plain(note).replace('; ', ', ')}"
    cases = list(row)
    row["why"] = "; ".join(sorted(notes.values(), key=lambda one: cases.index(one.partition(": ")[0])))


def _plain(text):
    return " ".join(str(text).replace("|", "¦").split())


def _load():
    kind, cases = None, []
    for line in PATH.read_text().splitlines() if PATH.exists() else []:
        if line.startswith("## "):
            kind, cases = line[3:], []
        elif kind and line.startswith("|") and not line.startswith("|-"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if not cases:
                cases = cells[1:]
                continue
            _tables.setdefault(kind, {})[cells[0].strip("`")] = {
                case: cell for case, cell in zip(cases, cells[1:]) if cell}


def _write():
    lines = [INTRODUCTION]
    for kind, rows in sorted(_tables.items()):
        cases = list(dict.fromkeys(case for row in rows.values() for case in row if case != "why"))
        lines += [f"## {kind}", "", f"| {kind.split()[0][:-1]} | " + " | ".join(cases + ["why"]) + " |",
                  "|---" * (len(cases) + 2) + "|"]
        for tool, row in rows.items():
            lines.append(f"| `{tool}` | "
                         + " | ".join(row.get(case, "") for case in cases + ["why"]) + " |")
        lines.append("")
    PATH.write_text("\n".join(lines))
