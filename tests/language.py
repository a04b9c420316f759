"""Report phrases that make the prose of the project hard to read; `make check` runs this file.

Prose is the comments, docstrings and messages of Python files, documents without their code, and
the text of all other files. Each forbidden phrase has a plainer one; CONTRIBUTING.md has the rules.
"""

import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# A space matches any white space, so that a phrase is found across lines. Upper case counts, too.
FORBIDDEN = {
    r"those of": "name the noun",
    r"that of": "name the noun",
    r"what (is|are|has|have)": "name the noun",
    r"what (it|they) (is|are|was|were|has|have|holds?|says?|takes?|knows?|made)": "name the noun",
    r"nothing else than": "only",
    r"(is|are|was|were|and|or|image|images|value|values) alone": "only",
    r"(goes?|went|gone|going) on (with|from|where|after)": "resume, or continue",
    r"nobody": "no one, or name the user",
    r"in vain": "without success",
    r"by now": "now, or since then",
    r"its like": "name the others",
    r"means of which": "by which",
    r"in batches of which": "two sentences",
    r"(tell|tells|told) (what|which|where|whether|how)": "report, print or return",
    r"to the eye": "visibly",
    r"held[- ]out": "validation, or test",
    r"(out of|into|by|from) what": "name the noun",
    r"brings it": "name the file, and the command",
    r"at a glance": "leave out",
    r"whatever": "any, or whichever value",
    r"thus": "so",
    r"hence": "so",
    r"whereby": "by which",
    r"utili[sz]e[sd]?": "use",
    r"in order to": "to",
}

SUFFIXES = {".py", ".md", ".yaml", ".toml", ".ini", ".html", ""}
NOT_READ = {"LICENSE", "tests/language.py", "tests/test_language.py"}

LAYOUT = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
# From Python 3.12 on, an f-string is several tokens.
STRINGS = {tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}


def keep_comments_and_strings(code: str) -> str:
    """Return Python code with a bar in place of each token that is no comment and no string."""
    lines = [""] * (code.count("\n") + 2)
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type in LAYOUT:
            continue
        if token.type == tokenize.COMMENT:
            text = token.string.lstrip("#")
        elif token.type in STRINGS:
            text = token.string.strip("fr\"'")
        else:
            text = "|"
        for line, words in enumerate(text.splitlines(), token.start[0] - 1):
            lines[line] += f"{words} "
    return "\n".join(lines)


def keep_prose(suffix: str, text: str) -> str:
    """Return the prose of a file, with equal line numbers."""
    if suffix == ".py":
        text = keep_comments_and_strings(text)
    elif suffix == ".md":
        text = re.sub(
            r"```.*?```", lambda block: "\n" * block[0].count("\n"), text, flags=re.DOTALL
        )
    else:
        text = re.sub(r"^ *#", "", text, flags=re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "`code`", text)


def find_phrases(name: str, text: str) -> Iterator[str]:
    """Yield a line for each forbidden phrase of a file: place, phrase and advice."""
    prose = keep_prose(Path(name).suffix, text)
    for phrase, advice in FORBIDDEN.items():
        pattern = rf"\b(?:{phrase})\b".replace(" ", r"\s+")
        for found in re.finditer(pattern, prose, flags=re.IGNORECASE):
            line = prose.count("\n", 0, found.start()) + 1
            yield f"{name}:{line}: '{' '.join(found[0].split())}': {advice}"


def main() -> int:
    """Check all files that git tracks; return the exit code."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    found = [
        line
        for name in sorted(filter(None, listed.split("\0")))
        if Path(name).suffix in SUFFIXES and name not in NOT_READ
        for line in find_phrases(name, (ROOT / name).read_text(encoding="utf-8"))
    ]
    print("\n".join(found) or "language: no forbidden phrase")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
