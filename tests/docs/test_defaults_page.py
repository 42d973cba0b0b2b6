"""The page of defaults names every default of a method."""

from __future__ import annotations

import re

import pytest

from occ_lab.config.options import Options
from tests.docs.pages import page_text

PAGE = page_text("docs/reference/defaults.md")
METHODS = [each for each in Options("train").choices("loss") if each != "rotation_classifier"]
# Names, seeds and classes; the schedule of Deep SVDD changes nothing without milestones.
NEUTRAL = r"name|seed|fit\.scheduler.*|.*_target_|.*_partial_"


@pytest.mark.parametrize("method", METHODS)
def test_every_default_of_a_method_says_what_it_was_chosen_on(method: str) -> None:
    keys = [
        key.removeprefix("loss.")
        for key in Options("train", [f"loss={method}"]).leaves()
        if key.startswith("loss.")
    ]
    chosen = [key for key in keys if not re.fullmatch(NEUTRAL, key)]
    assert [key for key in chosen if f"`loss.{key}`" not in PAGE] == []


def test_one_set_is_for_choosing() -> None:
    assert "**The MVTec AD category transistor is the set for choosing.**" in PAGE
    assert len(re.findall(r"\bnot recorded\b", PAGE)) > 5  # said, not left out
