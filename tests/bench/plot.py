"""Draws columns of a CSV file (test_longlife.py) as SVG: plot.py FILE.csv FILE.svg [column...]"""

import csv
import sys
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 800, 130  # of the lines of one column
LEFT, TOP, GAP = 90, 24, 34
COLUMNS = ["rss_kib", "announcer_rss_kib", "descriptors", "threads", "nodes", "store_bytes",
           "scratch_bytes", "events_published_total", "errors_total"]


def panel(y, name, points):
    """One column: its own scale from 0, its smallest and largest value written beside it."""
    last, top = points[-1][0] or 1, max(value for _, value in points) or 1
    line = " ".join(f"{LEFT + x / last * WIDTH:.1f},{y + HEIGHT - value / top * HEIGHT:.1f}"
                    for x, value in points)
    low = min(value for _, value in points)
    yield f'<rect x="{LEFT}" y="{y}" width="{WIDTH}" height="{HEIGHT}" class="frame"/>'
    yield f'<polyline points="{line}"/>'
    yield f'<text x="{LEFT}" y="{y - 6}">{escape(name)}: {low:,.0f} to {top:,.0f}</text>'
    yield f'<text x="{LEFT - 6}" y="{y + 10}" class="scale">{top:,.0f}</text>'
    yield f'<text x="{LEFT - 6}" y="{y + HEIGHT}" class="scale">0</text>'
    yield f'<text x="{LEFT + WIDTH}" y="{y + HEIGHT + 14}" class="scale">{last:,.0f} s</text>'


def picture(rows, columns):
    height = TOP + len(columns) * (HEIGHT + GAP)
    yield (f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 20}" '
           f'height="{height}" font-family="sans-serif" font-size="12">')
    yield ("<style>polyline{fill:none;stroke:#06c;stroke-width:1.2}"
           ".frame{fill:none;stroke:#ccc}.scale{text-anchor:end;fill:#666}</style>")
    yield '<rect width="100%" height="100%" fill="#fff"/>'
    for number, name in enumerate(columns):
        points = [(float(row["seconds"]), float(row[name])) for row in rows]
        yield from panel(TOP + number * (HEIGHT + GAP), name, points)
    yield "</svg>"


def main(source, target, *columns):
    with open(source, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = [name for name in columns or COLUMNS if name in rows[0]]
    with open(target, "w", encoding="utf-8") as file:
        file.write("\n".join(picture(rows, columns)) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
