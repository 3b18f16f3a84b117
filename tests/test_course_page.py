"""The page on a folder of reports: what stands on it, and that nothing in a report can break it."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import struct
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from fastnn.courses import Check, Found, Report, page

NAN = float("nan")
#: The smallest picture: one transparent pixel.
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
HOSTILE = """</section><script>alert(1)</script>"'&<img src=x onerror=alert(1)>\ud800"""
MACHINE = {"cpu": "A Processor", "python": "3.11.7", "numpy": "2.0.0", "fastnn": "0.1.0"}
GOOD, BAD = Check("accuracy", "about .9", 0.91, ">= 0.9", True), Check("loss", "0.1", NAN, "< 0.2", False)


class Parsed(HTMLParser):
    """A page's text and tags; fails if these are not balanced."""

    VOID = ("meta", "img")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def parsed(folder: Path) -> Parsed:
    """The page, after what holds for every page was checked."""
    found = Parsed((folder / "index.html").read_text(encoding="utf-8"))
    assert not found.all("script") and not found.all("link")
    assert all((image["src"] or "").startswith("data:image/") and image["alt"] for image in found.all("img"))
    assert not any(name.startswith("on") for _, attributes in found.tags for name in attributes)
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert {link["href"] for link in found.all("a")} <= {f"#{name}" for name in ids}
    return found


def put(folder: Path, name: str, *checks: Check, seconds: float = 1.5, **more: Any) -> None:
    """Leave a report behind."""
    of_found = {key: more.pop(key) for key in ("notes", "pictures") if key in more}
    found = Found(more.pop("metrics", {"loss": 0.5}), checks, **of_found)
    (folder / name).mkdir()
    more = {"what": f"what {name} is", "date": "2026-01-31 15:00 UTC", "machine": MACHINE} | more
    Report(name, seconds, 2, "avx2", 3, found, **more).write(folder / name / "report.json")


@pytest.fixture(autouse=True)
def results(monkeypatch: pytest.MonkeyPatch) -> None:
    """The results that there are, in their order."""
    monkeypatch.setattr(page, "RESULTS", {"one": "the first", "two": "the second", "three": "the third"})


def test_a_page(tmp_path: Path) -> None:
    put(
        tmp_path,
        "two",
        GOOD,
        BAD,
        about="All about two.\n\nIt has `code`.\n\n| a | b |\n| 1 | 2 |",
        options={"epochs": 3},
    )
    put(tmp_path, "one", GOOD, seconds=745, notes=["A note."], pictures={"a.png": "A picture of it"})
    put(tmp_path, "more", seconds=4000)
    put(tmp_path, "broken", error="no data\nanywhere")
    (tmp_path / "one" / "a.png").write_bytes(PIXEL)
    assert page.write(tmp_path) == tmp_path / "index.html"
    found = parsed(tmp_path)
    html = (tmp_path / "index.html").read_text(encoding="utf-8")

    assert [link["href"] for link in found.all("a")][:4] == [
        f"#result-{name}" for name in ("one", "two", "broken", "more")
    ]
    for text in ("A Processor", "3.11.7", "2.0.0", "avx2", "Run on 2026-01-31 15:00 UTC", "1 of 4 results hold"):
        assert text in found.text
    assert "There is no report of three." in found.text
    for text in ("✓ holds", "✗ 1 of 2 DOES NOT HOLD", "– nothing to check", "✗ COULD NOT RUN", "no data\nanywhere"):
        assert found.text.count(text) == (1 if text.startswith("no data") else 2)
    assert "12\xa0min\xa025\xa0s" in found.text and "1\xa0h\xa06\xa0min" in found.text and "1.5\xa0s" in found.text
    assert "what one is" in found.text and "All about two." in found.text and "epochs 3" in found.text
    assert "<code>code</code>" in html and "<pre>| a | b |\n| 1 | 2 |</pre>" in html and "<li>A note.</li>" in html
    assert html.count("<tr class=marked>") == 3  # two in the summary, one check
    row = "<td>0.1</td><td>not finite</td><td>&lt; 0.2</td>"
    assert f'<th scope="row">loss</th>{row}<td><strong class="no">✗ NO</strong></td>' in html
    (image,) = found.all("img")
    assert (image["alt"], image["width"], image["height"]) == ("A picture of it", "1", "1")
    assert image["src"] == "data:image/png;base64," + base64.b64encode(PIXEL).decode()
    assert "<figcaption>A picture of it</figcaption>" in html


def test_nothing_is_fetched(tmp_path: Path) -> None:
    put(tmp_path, "one", GOOD, pictures={"a.png": "A picture"})
    (tmp_path / "one" / "a.png").write_bytes(PIXEL)
    html = page.write(tmp_path).read_text(encoding="utf-8")
    assert "http:" not in html and "https:" not in html and "url(" not in html and "@import" not in html
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy.replace("&#x27;", "'") == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_hostile_words_are_only_words(tmp_path: Path) -> None:
    name = HOSTILE.replace("/", "").replace("\ud800", "")
    bad = Check(HOSTILE, HOSTILE, 1.0, HOSTILE, False)
    put(
        tmp_path,
        name,
        bad,
        what=HOSTILE,
        about=f"{HOSTILE}\n\n| {HOSTILE}",
        notes=[HOSTILE],
        pictures={"a.png": HOSTILE, HOSTILE: HOSTILE},
        metrics={HOSTILE: {HOSTILE: [HOSTILE, 1]}},
        options={HOSTILE: HOSTILE},
        machine={key: HOSTILE for key in MACHINE},
        date=HOSTILE,
        error=HOSTILE,
    )
    (tmp_path / name / "a.png").write_bytes(PIXEL)
    page.write(tmp_path)
    found = parsed(tmp_path)
    assert len(found.all("img")) == 1
    assert found.text.count("<script>alert(1)") > 15


@pytest.mark.parametrize("name", ["gone.png", "../two/a.png", "..", "", "a\0b", "x" * 5000, "."])
def test_a_picture_that_is_not_there_is_missed(tmp_path: Path, name: str) -> None:
    """As is one outside of the result's folder."""
    put(tmp_path, "two", GOOD)
    (tmp_path / "two" / "a.png").write_bytes(PIXEL)
    put(tmp_path, "one", GOOD, pictures={name: "What it would show"})
    page.write(tmp_path)
    found = parsed(tmp_path)
    assert "There is no picture" in found.text and "What it would show" in found.text and not found.all("img")


def test_wide_pictures_have_a_row_of_their_own(tmp_path: Path) -> None:
    def picture(width: int, height: int) -> bytes:
        return PIXEL[:16] + struct.pack(">II", width, height) + PIXEL[24:]

    files = {"wide.png": picture(300, 100), "tall.png": picture(100, 300), "short.png": PIXEL[:20], "a.svg": b"<svg/>"}
    put(tmp_path, "one", GOOD, pictures={name: name for name in files})
    for name, data in files.items():
        (tmp_path / "one" / name).write_bytes(data)
    page.write(tmp_path)
    found = parsed(tmp_path)
    assert [figure.get("class") for figure in found.all("figure")] == ["wide", None, None, None]
    assert [image.get("width") for image in found.all("img")] == ["300", "100", None, None]
    assert (found.all("img")[3]["src"] or "").startswith("data:image/svg+xml;base64,")


def test_metrics_in_full(tmp_path: Path) -> None:
    metrics = {
        "runs": {"a": {"loss": [0.25, 1 / 3], "f1": NAN}},
        "list": [{"n": 1}, [True, "x"]],
        "none": [],
        "epochs": 10,
    }
    put(tmp_path, "one", GOOD, metrics=metrics)
    html = page.write(tmp_path).read_text(encoding="utf-8")
    rows = re.findall(r'<tr><th scope="row">([^<]*)</th><td>([^<]*)</td></tr>', html)
    assert rows == [
        ("runs / a / loss", "0.25, 0.333333333"),
        ("runs / a / f1", "–"),
        ("list / 0 / n", "1"),
        ("list / 1", "yes, x"),
        ("none", ""),
        ("epochs", "10"),
    ]
    assert "<details><summary>All numbers (6)</summary>" in html


def test_reports_from_several_machines(tmp_path: Path) -> None:
    put(tmp_path, "one", GOOD)
    put(tmp_path, "two", GOOD, machine=MACHINE | {"cpu": "Another"}, date="2026-02-01 09:00 UTC")
    page.write(tmp_path)
    found = parsed(tmp_path)
    assert "Run from 2026-01-31 15:00 UTC to 2026-02-01 09:00 UTC" in found.text
    assert [machine["aria-label"] for machine in found.all("dl")] == ["machine 1", "machine 2"]
    assert "seed 3 · machine 1" in found.text and "seed 3 · machine 2" in found.text


def test_the_page_is_made_again_from_the_files_alone(tmp_path: Path) -> None:
    put(tmp_path, "one", GOOD)
    put(tmp_path, "two", BAD)
    first = page.write(tmp_path).read_bytes()
    (tmp_path / "index.html").unlink()
    assert page.write(tmp_path).read_bytes() == first
    shutil.rmtree(tmp_path / "two")
    page.write(tmp_path)
    assert "There is no report of two, three." in parsed(tmp_path).text
    assert sorted(os.listdir(tmp_path)) == ["index.html", "one"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "one"}'])
def test_a_report_that_cannot_be_read_is_said(tmp_path: Path, text: str) -> None:
    put(tmp_path, "one", GOOD)
    (tmp_path / "one" / "report.json").write_text(text)
    put(tmp_path, "two", GOOD)
    page.write(tmp_path)
    found = parsed(tmp_path)
    assert "report.json: not a report" in found.text and "1 of 2 results hold" in found.text


def test_reports_of_the_first_version_are_read(tmp_path: Path) -> None:
    """Which said less."""
    put(tmp_path, "one", GOOD)
    path = tmp_path / "one" / "report.json"
    fields = json.loads(path.read_text())
    for later in ("what", "about", "options", "date", "machine", "error"):
        del fields[later]
    path.write_text(json.dumps(fields))
    page.write(tmp_path)
    found = parsed(tmp_path)
    assert "1 of 1 results hold" in found.text and not found.all("dl")


def test_an_empty_folder_and_none(tmp_path: Path) -> None:
    page.write(tmp_path)
    assert "0 of 0 results hold" in parsed(tmp_path).text
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        page.write(tmp_path / "nowhere")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no Chromium")
def test_a_browser_shows_it(tmp_path: Path) -> None:
    put(tmp_path, "one", GOOD, pictures={"a.png": "A picture"})
    put(tmp_path, "two", BAD, notes=[HOSTILE])
    (tmp_path / "one" / "a.png").write_bytes(PIXEL)
    path = page.write(tmp_path)
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run([*command, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=120)
    shown = Parsed(done.stdout)
    assert [heading.get("id") for heading in shown.all("h2")] == ["summary", "result-one", "result-two"]
    assert len(shown.all("section")) == 3 and len(shown.all("img")) == 1 and not shown.all("script")
    assert "1 of 2 results hold" in shown.text and "✗ NO" in shown.text


@pytest.mark.parametrize(
    "change",
    [
        {"seconds": None},
        {"seconds": "1"},
        {"seconds": NAN},
        {"what": 5},
        {"machine": []},
        {"options": 1},
        {"notes": [3]},
        {"pictures": {"a.png": None}},
        {"checks": [{**vars(GOOD), "holds": "no"}]},
        {"checks": [{**vars(GOOD), "ours": 10**400}]},
        {"checks": [{**vars(GOOD), "what": None}]},
    ],
)
def test_a_value_of_the_wrong_kind_is_no_report(tmp_path: Path, change: dict[str, Any]) -> None:
    put(tmp_path, "a", GOOD)
    path = tmp_path / "a" / "report.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    page.write(tmp_path)
    assert "not a report of this version" in parsed(tmp_path).text


def test_pictures_from_elsewhere_are_not_read(tmp_path: Path) -> None:
    secret = base64.b64encode(b"secret" * 9).decode()
    (tmp_path / "secret.png").write_bytes(b"secret" * 9)
    put(tmp_path, "a", GOOD, pictures={"link.png": "a link", "pipe.png": "a pipe"})
    (tmp_path / "a" / "link.png").symlink_to(tmp_path / "secret.png")
    os.mkfifo(tmp_path / "a" / "pipe.png")
    page.write(tmp_path)
    assert parsed(tmp_path).text.count("There is no picture") == 2
    assert secret not in (tmp_path / "index.html").read_text()
