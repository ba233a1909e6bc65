"""Writes the results in OSLO.md."""

from pathlib import Path

PAGE = Path(__file__).parents[2] / "OSLO.md"


def table(*rows):
    """The first row is the heading."""
    heading, *rows = rows
    lines = [heading, ["---"] * len(heading), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write(section, text):
    begin = f"<!-- {section}: written by the program -->\n"
    end = f"<!-- end of {section} -->"
    before, rest = PAGE.read_text().split(begin)
    _, after = rest.split(end)
    PAGE.write_text(f"{before}{begin}\n{text}\n{end}{after}")
