"""Checks the prose of READMEs, pages and doc comments with proselint and a vocabulary of ours.

`cargo xtask test --all` runs it: python check.py PATTERN…, as `git ls-files` takes them.
"""

import re
import subprocess
import sys
from pathlib import Path

from proselint.checks import __register__ as checks_of_proselint
from proselint.registry.checks import Check, types

# Of proselint's checks, those that find mistakes rather than matters of taste.
CHOSEN = ("lexical_illusions", "malapropisms", "mondegreens", "nonwords")


def vocabulary():
    lines = Path(__file__).with_name("vocabulary.tsv").read_text("utf-8").splitlines()
    for line in lines:
        if not line.startswith("#"):
            pattern, allowed, advice = line.split("\t")
            check = Check(
                check_type=types.Existence(items=(pattern,)),
                path="vocabulary",
                message="'{}': write " + advice,
            )
            yield check, re.compile(rf"\s+({allowed})\b", re.I) if allowed else None


def filler(match):
    """Of the same length and lines, so that positions stay right."""
    return re.sub(r"\S", "#", match[0])


def prose(path):
    """The file's text without code, links and quotations."""
    text = path.read_text("utf-8")
    if path.suffix == ".rs":
        # Doc comments alone.
        comment = re.compile(r"^\s*//[/!] ?(.*)$")
        found = (comment.match(line) for line in text.splitlines())
        text = "\n".join(match[1] if match else "" for match in found)
    for pattern in (
        r"(?ms)^ *(```|~~~).*?^ *\1",
        r"(?s)<!--.*?-->",
        r"`[^`\n]+`",
        r"\]\([^)]*\)",
        r"(?m)^\[[^\]]+\]: .*$",
        r"https?://\S+",
        r"“[^”]*”",
    ):
        text = re.sub(pattern, filler, text)
    return text


def main(paths):
    checks = [
        (check, None)
        for check in checks_of_proselint
        if check.path.split(".")[0] in CHOSEN
    ]
    checks.extend(vocabulary())
    found = 0
    for path in paths:
        text = prose(path)
        # A phrase may go on in the next line, but not in the next paragraph.
        flat = text.replace("\n\n", "##").replace("\n", " ")
        for check, allowed in checks:
            for result in check.check_with_flags(flat):
                start, end = result.span
                end = start + len(flat[start:end].rstrip())
                if allowed and allowed.match(flat, end):
                    continue
                line = text.count("\n", 0, start + 1) + 1
                print(f"{path}:{line}: {result.message}")
                found += 1
    return found


if __name__ == "__main__":
    listed = subprocess.check_output(["git", "ls-files", *sys.argv[1:]], text=True)
    files = [Path(line) for line in listed.splitlines()]
    if not files:
        sys.exit("nothing to check")
    if main(files):
        sys.exit(1)
    print(f"{len(files)} files")
