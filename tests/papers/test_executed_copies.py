"""The executed copies of notebooks: their links lead from where they lie, and a reader is told of them."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

from mmlib import paths
from mmlib.names import TWINS
from mmlib.papers import gmm_loss
from mmlib.papers.catalog import PAPERS
from mmlib.pipeline import executed, job, links, notebooks

PARAMETERS = "profile = ''\ndata = ''\nbackbone = ''\nlabel = ''\nseeds = 0"
SHOWS = (
    "from IPython.display import Markdown\n"
    "Markdown('- [table](../figures/mine/balm/main.md), [lost](../figures/mine/balm/lost.md)')"
)
PROSE = "What [A1](../docs/ledger.md#a1) leaves open, of [twins](../figures/twins/balm/main.md)."


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository's folder with a page and figures of its own, beside runs and figures elsewhere."""
    folder = tmp_path / "home"
    monkeypatch.setenv("MMLIB_HOME", str(folder))
    monkeypatch.setenv("MMLIB_RUNS", str(tmp_path / "my runs"))
    monkeypatch.setenv("MMLIB_FIGURES", str(tmp_path / "my figures"))
    there = (
        folder / "docs" / "ledger.md",
        folder / "figures" / "twins" / "balm" / "main.md",
        tmp_path / "my figures" / "mine" / "balm" / "main.md",
    )
    for path in there:
        path.parent.mkdir(parents=True)
        path.write_text(str(path), encoding="utf-8")
    (folder / "notebooks").mkdir()
    return folder


def put(home: Path) -> None:
    """A notebook with prose and with an output that both have links."""
    cells = [
        nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}, id="first"),
        nbformat.v4.new_markdown_cell(PROSE, id="second"),
        nbformat.v4.new_code_cell(SHOWS, id="third"),
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path = home / "notebooks" / PAPERS["gmm_loss"].notebook
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), path)


def targets(text: str, folder: Path) -> list[Path]:
    """The files that the links of a text lead to from a folder."""
    found = re.findall(r"\]\(([^)#]+)", text)
    return [(folder / name.replace("%20", " ")).resolve() for name in found]


def test_links_lead_to_the_same_files_from_the_copy_and_words_stay_of_what_is_not_there(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    put(home)
    context = gmm_loss.context("smoke")
    assert notebooks.execute(context) is None
    copy = executed.copy_of(context)
    cells = nbformat.read(copy, as_version=4).cells
    prose = next(cell.source for cell in cells if cell.cell_type == "markdown")
    shown = cells[-1].outputs[0].data["text/markdown"]
    assert targets(prose, copy.parent) == [
        home / "docs" / "ledger.md",
        home / "figures" / "twins" / "balm" / "main.md",
    ]
    assert "ledger.md#a1)" in prose
    assert targets(shown, copy.parent) == [paths.figures() / "mine" / "balm" / "main.md"]
    assert shown.endswith(", lost") and "lost.md" in cells[-1].source
    before = copy.read_bytes()
    links.resolve(copy)
    assert copy.read_bytes() == before
    told = capfd.readouterr()
    assert "KeyboardInterrupt" not in told.out + told.err


def test_figures_of_this_run_go_before_those_of_the_repository(home: Path) -> None:
    ours = paths.figures() / "twins" / "balm" / "main.md"
    ours.parent.mkdir(parents=True)
    ours.touch()
    assert targets(links.resolved(PROSE, home), home)[1] == ours


@pytest.mark.parametrize(
    "text",
    ["[a page](https://example.org/../x)", "[here](#part)", "$[0](../1)$ `x`", "[up](../../x)"],
)
def test_what_is_no_link_of_a_notebook_stays(text: str, home: Path) -> None:
    assert links.resolved(text, home).replace("$0$", "$[0](../1)$") == text


def test_without_a_copy_nothing_is_written(tmp_path: Path) -> None:
    links.resolve(tmp_path / "none.ipynb")
    assert not (tmp_path / "none.ipynb").exists()


def test_the_last_lines_name_the_folder_of_the_copies() -> None:
    contexts = [PAPERS[name].context("smoke") for name in ("balm", "gmm_loss")]
    told = job.where_copies_lie(contexts)
    assert told.count(str(paths.runs() / "notebooks" / TWINS)) == 1 and told.endswith(".")
