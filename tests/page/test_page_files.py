"""The page's files without a browser: contrast, and nothing that its policy would refuse."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent.parent / "watcher" / "web" / "page"
COLOURS = {
    name: pair
    for name, *pair in re.findall(
        r"--(\w+): light-dark\(#(\w{6}), #(\w{6})\)", (PAGE / "page.css").read_text()
    )
}
GROUNDS = ("ground", "raised")
NO_TEXT = {*GROUNDS, "rule"}
LEAST = 4.5  # of WCAG 2, level AA, for text


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [
        each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts
    ]
    return sum(weight * each for weight, each in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_the_contrast_of_black_and_white_is_21():
    assert contrast("000000", "ffffff") == pytest.approx(21)


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("name", sorted(COLOURS.keys() - NO_TEXT))
def test_text_can_be_read_in_light_and_in_dark(name, ground):
    for text, behind in zip(COLOURS[name], COLOURS[ground], strict=True):
        assert contrast(text, behind) >= LEAST


def test_each_colour_of_the_style_has_a_name():
    style = (PAGE / "page.css").read_text().partition("--mono")[2]
    assert re.findall(r"#[0-9a-f]{3,8}\b|rgb|hsl", style) == []
    assert set(re.findall(r"var\(--(\w+)\)", style)) <= {*COLOURS, "mono"}


@pytest.mark.parametrize("file", sorted(PAGE.iterdir()), ids=lambda file: file.name)
def test_no_file_asks_another_server_or_writes_markup(file):
    text = file.read_text()
    assert re.findall(r"(?<!xmlns=\")(?<!SVG = \")https?://", text) == []
    assert (
        re.findall(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|@import", text) == []
    )
    assert re.findall(r" style=| on\w+=\"|<script>|<style", text) == []
