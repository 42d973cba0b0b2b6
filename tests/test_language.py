"""Prose uses one word for one thing: the forbidden words and phrases of the design are absent.

Prose is pages, comments, docstrings and messages. Code in pages and docstrings is left out, and so
are strings without a space, which are keys and names.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
# A word or phrase, and what to write instead.
FORBIDDEN = {
    r"\babnormal(?:ly|ity|ities)?\b": "anomalous, anomaly",
    r"\bdefective\b": "anomalous",
    r"\b(?:(?:the|a|an|this|what) shares?|shares? of)\b(?! (?:the|their|all)\b)": ("fraction"),
    r"\b(?:is|are|was|were|be|been|not) told\b(?! apart)": "returned, reported, printed",
    r"\bplaces? in (?:the|a) (?:dataset|split|list|file)\b": "index",
    r"\bno look at\b": "no model selection on test data",
    r"\boracle says so\b": "oracle numbers are labelled",
    r"\bnobody has\b": "a plain statement of what is missing",
    r"\bthat does not lead\b": "non-zero ranks",
    r"\bas they come, from the first one on\b": "each incoming image",
    r"\bchanges? no figures?\b": "do not affect metrics",
    r"\band the others say so\b": "exit with a message",
    r"\bsays? of itself\b": "the header, the metadata",
    r"\bweighs? on all\b": "affects all",
    r"\b(?<!there )is no (?:image|number|folder|directory|run|file|name|mask)\b": "is not a",
    r"\bof ones own\b": "of your own",
    r"\bLet (?:\w+ ){0,3}see\b": "pass … to",
    r"\bTell the\b": "inform, set",
    r"\bmake room\b": "free some space",
}
PATTERN = re.compile("|".join(f"(?:{each})" for each in FORBIDDEN))
# Names that prose quotes without marking them as code.
NAMES = (
    "calibration.share",
    "dataset.abnormal",
    "dataset.defective",
    "abnormal: ",
    "defective: ",
    "in abnormal or masks",
    "give abnormal too",
    "anomalous ones in abnormal",
)
CODE = re.compile(r"```.*?```|``[^`]*``|`[^`\n]*`|^\s*(?:>>>|\.\.\.) .*$", re.DOTALL | re.MULTILINE)


def without_code(text: str) -> str:
    """The text with code blanked out, so that line numbers stay."""
    text = CODE.sub(lambda code: re.sub(r"[^\n]", " ", code[0]), text)
    for name in NAMES:
        text = text.replace(name, " " * len(name))
    return text


def prose_of_python(source: str) -> Iterator[tuple[int, str]]:
    """The comments and the strings with a space, each with its first line."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        name = tokenize.tok_name[token.type]
        if name == "COMMENT" or (name in ("STRING", "FSTRING_MIDDLE") and " " in token.string):
            yield token.start[0], token.string


def prose(path: Path) -> Iterator[tuple[int, str]]:
    source = path.read_text(encoding="utf-8")
    if not PATTERN.search(source):  # tokenizing is slow
        return
    if path.suffix == ".py":
        yield from prose_of_python(source)
    elif path.suffix == ".yaml":
        for number, line in enumerate(source.splitlines(), start=1):
            yield number, line.partition("#")[2]
    else:
        yield 1, source


def faults(folder: Path, patterns: tuple[str, ...]) -> Iterator[str]:
    for path in sorted({path for pattern in patterns for path in folder.rglob(pattern)}):
        for first, text in prose(path):
            plain = without_code(text)
            for found in PATTERN.finditer(plain):
                line = first + plain.count("\n", 0, found.start())
                better = next(
                    word for pattern, word in FORBIDDEN.items() if re.fullmatch(pattern, found[0])
                )
                yield f"{path.relative_to(PROJECT)}:{line}: {found[0]!r}; write: {better}"


@pytest.mark.parametrize("folder", ["src", "benchmarks", "experiments", "docs", "conf"])
def test_the_prose_of_a_folder(folder: str) -> None:
    assert not list(faults(PROJECT / folder, ("*.py", "*.md", "*.yaml")))


def test_the_prose_of_the_pages_at_the_top() -> None:
    pages = [path.name for path in PROJECT.glob("*.md")]
    assert not [fault for fault in faults(PROJECT, tuple(pages)) if fault.split(":")[0] in pages]


@pytest.mark.parametrize(
    "text",
    [
        "abnormal images",
        "a defective part",
        "the share of images",
        "no AUROC is told",
        "a path that is no file",
        "features, which nobody has yet",
        "Let the backbone see the images",
        "Tell the objective which epoch begins",
    ],
)
def test_what_is_forbidden_is_found(text: str, tmp_path: Path) -> None:
    page = tmp_path / "page.py"
    page.write_text(f"x = 1  # {text}\n")
    assert [PATTERN.search(without_code(found)) for _, found in prose(page)] != [None]
