"""Artifacts on disk, the manifest that lists them, and the page that shows them."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas as pd
import pytest

from mmlib.errors import InputError
from mmlib.report import artifact, figures
from mmlib.report.artifact import Artifact, Made, Output
from mmlib.report.dashboard import write_dashboard

MADE = Made("twins", "quick", seeds=(1, 0), fingerprint="abc", reduced="Reduced: 12 epochs.")
NASTY = '<script>alert("1")</script> & \'x\' | "y"'


def make(
    name: str = "table1", kind: Any = "table", paper: str = "balm", title: str = "Table 1"
) -> Artifact:
    return Artifact(
        name,
        paper,
        kind,
        title,
        "Accuracy under six settings.",
        lambda c: [],
        lambda c, cells: Output(),
        13,
        "BALM Table 1",
    )


def table_output() -> Output:
    return Output(
        table=pd.DataFrame(
            {"method": ["MMGCN", "GCNet"], "ours": ["61.00 ± 1.00 (3)", "not built yet"]}
        ),
        numbers=pd.DataFrame({"mean": [61.0]}),
        rows_built=1,
        notes=("one note",),
        run_ids=("b", "a", "b"),
    )


def figure_output() -> Output:
    figure, (ax,) = figures.panel_grid(1)
    figures.lines(ax, [0, 1], {"plain": [1.0, 2.0]})  # type: ignore[dict-item]
    return Output(figure=figure, numbers=pd.DataFrame({"x": [0, 1], "y": [1.0, 2.0]}))


class Page(HTMLParser):
    """What a page links, which tags it has, and its text outside style and script."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.inside: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.links += [
            value or ""
            for key, value in attrs
            if key in ("href", "src", "action", "srcset", "poster")
        ]
        if tag not in ("img", "input", "meta", "link", "br"):
            self.inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.inside.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self.inside and self.inside[-1] not in ("style", "script"):
            self.text += data


def test_a_table_and_a_figure_are_written_with_all_their_files(tmp_path: Path) -> None:
    folder = tmp_path / "figures"
    entry = artifact.write(make(), table_output(), folder, MADE)
    assert entry["files"] == [
        f"figures/twins/balm/table1{e}" for e in ("-numbers.csv", ".csv", ".md", ".tex")
    ]
    assert all((tmp_path / name).is_file() for name in entry["files"])
    assert (entry["status"], entry["rows_built"], entry["rows_in_paper"]) == ("regenerated", 1, 13)
    assert (entry["run_ids"], entry["runs"], entry["seeds"]) == (["a", "b"], 2, [0, 1])
    text = (folder / "twins/balm/table1.md").read_text(encoding="utf-8")
    assert "Reduced: 12 epochs." in text and "- one note" in text
    drawn = artifact.write(make("fig7", "figure"), figure_output(), folder, MADE)
    assert drawn["files"] == [f"figures/twins/balm/fig7{e}" for e in (".csv", ".png")]
    assert drawn["local"] == ["figures/twins/balm/fig7.svg"]
    assert not [p for p in folder.rglob(".*")]


def test_what_differs_by_machine_stands_in_files_that_are_not_committed(tmp_path: Path) -> None:
    folder, root = tmp_path / "figures", Path(__file__).resolve().parents[2]
    timed = dataclasses.replace(table_output(), local=pd.DataFrame({"seconds": [0.25]}))
    entry = artifact.write(make(), timed, folder, MADE)
    assert entry["local"] == ["figures/twins/balm/table1-local.csv"]
    assert (tmp_path / entry["local"][0]).read_text() == "seconds\n0.25\n"
    layout = dataclasses.replace(make("fig9", "figure"), varies=True)
    drawn = artifact.write(layout, figure_output(), folder, MADE)
    assert drawn["files"] == [] and drawn["status"] == "regenerated"
    assert drawn["local"] == [f"figures/twins/balm/fig9-local{e}" for e in (".csv", ".png", ".svg")]
    for name in entry["local"] + drawn["local"]:
        ignored = subprocess.run(["git", "check-ignore", "-q", name], cwd=root).returncode
        assert (tmp_path / name).is_file() and ignored == 0
    for name in entry["files"]:
        assert subprocess.run(["git", "check-ignore", "-q", name], cwd=root).returncode == 1
    artifact.update_manifest(folder / "manifest.json", [entry, drawn])
    page = write_dashboard(folder / "manifest.json", folder / "index.html").read_text()
    assert "fig9-local.png" in page and 'href="twins/balm/fig9-local.png"' not in page


def test_numbers_have_ten_digits_whatever_comes_after_them() -> None:
    sums = [pd.DataFrame({"x": [x]}) for x in (0.1 + 0.2, 0.3)]
    assert sums[0]["x"][0] != sums[1]["x"][0]
    assert artifact.csv_bytes(sums[0]) == artifact.csv_bytes(sums[1]) == b"x\n0.3\n"
    assert artifact.csv_bytes(pd.DataFrame({"x": [65.123456789012]})) == b"x\n65.12345679\n"


def test_writing_again_gives_the_same_bytes(tmp_path: Path) -> None:
    seen = []
    for folder in (tmp_path / "a" / "figures", tmp_path / "b" / "figures"):
        artifact.write(make(), table_output(), folder, MADE)
        artifact.write(make("fig7", "figure"), figure_output(), folder, MADE)
        seen.append({p.name: p.read_bytes() for p in folder.rglob("*.*")})
    assert seen[0] == seen[1] and len(seen[0]) == 7


def test_many_run_ids_are_kept_as_a_count_and_a_hash(tmp_path: Path) -> None:
    many = tuple(str(i) for i in range(51))
    entry = artifact.write(
        make(), Output(table=pd.DataFrame({"a": [1]}), run_ids=many), tmp_path / "figures", MADE
    )
    other = artifact.write(
        make(), Output(table=pd.DataFrame({"a": [1]}), run_ids=many[1:]), tmp_path / "f", MADE
    )
    assert entry["run_ids"] == [] and entry["runs"] == 51 and len(other["run_ids"]) == 50
    assert entry["run_ids_hash"] != other["run_ids_hash"]


def test_nothing_drawn_is_not_built_yet_and_bad_names_are_refused(tmp_path: Path) -> None:
    assert artifact.write(make(), Output(), tmp_path / "figures", MADE)["status"] == "not built yet"
    assert not (tmp_path / "figures").exists()
    for bad in (
        lambda: make("Table 1"),
        lambda: make(kind="plot"),
        lambda: Made("../x", "quick"),
        lambda: artifact.missing(make(), MADE, "done"),
    ):
        with pytest.raises(InputError):
            bad()


def test_merging_is_idempotent_and_keeps_other_entries(tmp_path: Path) -> None:
    path = tmp_path / "figures" / "manifest.json"
    first = artifact.missing(make("fig10", "figure"), MADE, "needs data")
    second = artifact.missing(make("fig9", "figure"), MADE, "needs data")
    artifact.update_manifest(path, [first])
    artifact.update_manifest(path, [second])
    before = path.read_bytes()
    artifact.update_manifest(path, [second])
    assert path.read_bytes() == before
    assert [e["id"] for e in artifact.read_manifest(path)] == ["fig9", "fig10"]
    artifact.update_manifest(path, [first | {"status": "regenerated"}])
    assert [e["status"] for e in artifact.read_manifest(path)] == ["needs data", "regenerated"]
    elsewhere = artifact.missing(make("fig9", "figure"), Made("mosi", "laptop"), "needs data")
    assert len(artifact.update_manifest(path, [elsewhere])) == 3


def test_writers_at_once_lose_no_entry(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    entries = [artifact.missing(make(f"fig{i}", "figure"), MADE, "needs data") for i in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda entry: artifact.update_manifest(path, [entry]), entries))
    assert {e["id"] for e in artifact.read_manifest(path)} == {f"fig{i}" for i in range(40)}


def test_a_broken_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "manifest.json"
    artifact.update_manifest(path, [artifact.missing(make(), MADE, "needs data")])
    before, names = path.read_bytes(), sorted(os.listdir(tmp_path))

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(InputError, match=r"disk full.*free space"):
        artifact.update_manifest(
            path, [artifact.missing(make("fig1", "figure"), MADE, "needs data")]
        )
    assert path.read_bytes() == before and sorted(os.listdir(tmp_path)) == names


@pytest.mark.parametrize("content", ["{", '{"a": 1}', '[{"id": "x"}]', "[1]"])
def test_a_file_that_is_no_manifest_is_named_in_the_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"manifest\.json"):
        artifact.update_manifest(path, [])
    assert path.read_text() == content


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "figures"
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "01_balm.ipynb").write_text("{}")
    wide = pd.DataFrame(
        {("(0.5, 0.5)", "accuracy", w): [v] for w, v in (("paper", "58.04"), ("ours", NASTY))},
        index=pd.Index(["MMGCN"]),
    )
    entries = [
        artifact.write(make(title=NASTY), Output(table=wide, notes=(NASTY,)), folder, MADE),
        artifact.write(make("fig7", "figure"), figure_output(), folder, MADE),
        artifact.write(
            make("fig7", "figure"), figure_output(), folder, Made("mosi-bclstm", "laptop")
        ),
        artifact.missing(make("fig3", "figure", "dream"), MADE, "needs data", ["Give --data."]),
    ]
    entries[1]["files"].append("figures/twins/balm/gone.png")
    artifact.update_manifest(folder / "manifest.json", entries)
    return write_dashboard(folder / "manifest.json", folder / "index.html", total=65)


def test_the_page_needs_no_network_and_every_linked_file_is_there(site: Path) -> None:
    source, page = site.read_text(encoding="utf-8"), Page(site)
    assert page.inside == []
    for part in ("http:", "https:", "@import", "url(", "//cdn", 'src="//'):
        assert part not in source
    files = [link for link in page.links if not link.startswith(("#", "data:"))]
    assert files and all((site.parent / unquote(link)).is_file() for link in files)
    assert "twins/balm/fig7.png" in files and "mosi-bclstm/balm/fig7.csv" in files
    assert not any(link.endswith(".svg") for link in files)
    assert "../notebooks/01_balm.ipynb" in files and not any("gone" in link for link in files)
    assert (
        "2 of 65 regenerated" in page.text
    )  # table1 and fig7; fig7 counts once though in two collections


def test_the_page_shows_text_and_never_runs_it(site: Path) -> None:
    page = Page(site)
    assert sum(
        tag == "script" for tag, _ in page.tags
    ) == 1 and "<script>alert" not in site.read_text(encoding="utf-8")
    assert page.text.count(NASTY) == 3  # title, note, cell of the preview
    assert "58.04" in page.text


def test_controls_have_labels_and_pictures_have_words(site: Path) -> None:
    page = Page(site)
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    controls = [i for i, (tag, _) in enumerate(page.tags) if tag in ("select", "input")]
    assert len(controls) == 6 and all(page.tags[i - 1][0] == "label" for i in controls)
    assert all(
        attrs.get("alt") == "Accuracy under six settings. Reduced: 12 epochs."
        or attrs.get("alt") == "Accuracy under six settings."
        for tag, attrs in page.tags
        if tag == "img"
    )
    cards = [attrs for tag, attrs in page.tags if tag == "article"]
    assert {
        (c["data-paper"], c["data-collection"], c["data-status"], c["data-kind"]) for c in cards
    } == {
        ("balm", "twins", "regenerated", "table"),
        ("balm", "twins", "regenerated", "figure"),
        ("balm", "mosi-bclstm", "regenerated", "figure"),
        ("dream", "twins", "needs data", "figure"),
    }
    assert ("a", "#content") in [
        (tag, attrs.get("href")) for tag, attrs in page.tags
    ] and "content" in ids


def test_reports_and_what_is_gathered_are_linked_where_they_are(site: Path) -> None:
    assert not any(link.endswith(("replication.md", "claims.csv")) for link in Page(site).links)
    (site.parent / "mosi-bclstm" / "balm" / "replication.md").write_text("x")
    (site.parent / "claims.csv").write_text("x")
    write_dashboard(site.parent / "manifest.json", site)
    links = Page(site).links
    assert "mosi-bclstm/balm/replication.md" in links and "claims.csv" in links
    assert "arithmetic.csv" not in links and "twins/balm/replication.md" not in links


def test_an_empty_or_absent_manifest_says_what_to_run(tmp_path: Path) -> None:
    page = Page(write_dashboard(tmp_path / "manifest.json", tmp_path / "index.html"))
    assert "./run_all.sh" in page.text and page.inside == []
    (tmp_path / "manifest.json").write_text(json.dumps([]))
    again = Page(write_dashboard(tmp_path / "manifest.json", tmp_path / "index.html"))
    assert again.text == page.text


def test_equal_manifests_give_equal_pages(site: Path) -> None:
    first = site.read_bytes()
    write_dashboard(site.parent / "manifest.json", site, total=65)
    assert site.read_bytes() == first


def test_what_an_earlier_drawing_had_and_this_one_has_not_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "figures"
    beside = folder / "twins" / "balm" / "fig7-variants.png"
    artifact.write(make("fig7", "figure"), figure_output(), folder, MADE)
    beside.write_bytes(b"of another one")
    drawn = {path.name for path in beside.parent.iterdir()}
    assert {"fig7.png", "fig7.svg", "fig7.csv"} <= drawn
    artifact.write(make("fig7", "figure"), Output(), folder, MADE)  # nothing to draw: all stays
    assert {path.name for path in beside.parent.iterdir()} == drawn
    artifact.write(make("fig7", "figure"), table_output(), folder, MADE)
    left = {path.name for path in beside.parent.iterdir()}
    assert left == {"fig7.csv", "fig7.md", "fig7.tex", "fig7-numbers.csv", beside.name}


def test_rows_of_the_paper_alone_are_counted_and_not_shown(tmp_path: Path) -> None:
    """Neither does a table of which no row is built have the badge of one that is."""
    output = dataclasses.replace(
        table_output(),
        table=pd.DataFrame({"method": ["A", "B"], "ours": ["not built yet", "not built yet"]}),
        rows_built=0,
    )
    figures_folder = tmp_path / "figures"
    entries = [
        artifact.write(make("table1"), table_output(), figures_folder, MADE),
        artifact.write(make("table2", title="Table 2"), output, figures_folder, MADE),
    ]
    artifact.update_manifest(figures_folder / "manifest.json", entries, ["balm"])
    page = write_dashboard(figures_folder / "manifest.json", figures_folder / "index.html")
    text = page.read_text(encoding="utf-8")
    assert "1 row published only" in text and "2 rows published only" in text
    assert "not built yet" not in Page(page).text
    badges = [dict(a).get("class") for tag, a in Page(page).tags if tag == "span"]
    assert badges.count("badge done") == 1 and badges.count("badge open") == 1


def test_data_that_no_extractor_saw_come_first_and_twins_last(tmp_path: Path) -> None:
    folder = tmp_path / "figures"
    names = ("twins", "mosi-bclstm", "embedded", "mosi-unseen", "crema-d-votes")
    entries = [
        artifact.write(
            make(title=f"Table of {name}"),
            table_output(),
            folder,
            dataclasses.replace(MADE, collection=name),
        )
        for name in names
    ]
    artifact.update_manifest(folder / "manifest.json", entries, ["balm"])
    page = write_dashboard(folder / "manifest.json", folder / "index.html")
    text = page.read_text(encoding="utf-8")
    at = {name: text.index(f"Table of {name}<") for name in names}
    expected = ["mosi-unseen", "crema-d-votes", "mosi-bclstm", "embedded", "twins"]
    assert sorted(names, key=lambda name: at[name]) == expected


def test_a_page_links_the_notebooks_it_is_given_and_the_comparison_of_methods(site: Path) -> None:
    assert not any("compare" in link for link in Page(site).links)
    copies = site.parent.parent / "runs" / "mine"
    for path in (copies / "01_balm.ipynb", site.parent / "compare" / "index.html"):
        path.parent.mkdir(parents=True)
        path.touch()
    links = Page(write_dashboard(site.with_name("manifest.json"), site, notebooks=copies)).links
    assert "../runs/mine/01_balm.ipynb" in links and "compare/index.html" in links
    assert "../notebooks/01_balm.ipynb" not in links
