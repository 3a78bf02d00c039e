"""Whatever a table of labels looks like, it is read exactly as meant or refused with a row (about 10 s)."""

from __future__ import annotations

import csv
import io
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from small_folder import good_rows, write_folder

from mmlib.data.readers import read_bundle
from mmlib.errors import InputError

WORDS = ("happy", "sad", "neutral", "very angry", "ängstlich", "楽しい", "C4", "no-one", "1st")
ODD = (
    "",
    " ",
    "nan",
    "NaN",
    "-",
    "–",
    "?",
    "n/a",
    "null",
    "inf",
    "1,5",
    "-0,25",
    "−1",
    "1.5.2",
    "two",
    "0x1F",
    "1_0",
)
NUMBERS = ("{:.2f}", "{:+.2f}", " {:.2f}", "{:.2f} ", "{:.3e}", "{!r}")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Written:
    """A column as its author meant it: the cells, what each says, and the row of a slip, or None."""

    cells: list[str]
    meant: list[float] | list[str]
    slip: int | None


@st.composite
def scores(draw: st.DrawFn) -> Written:
    values = draw(st.lists(st.integers(-300, 300).map(lambda v: v / 100), min_size=24, max_size=24))
    forms = draw(st.lists(st.sampled_from(NUMBERS), min_size=24, max_size=24))
    cells = [form.format(value) for form, value in zip(forms, values, strict=True)]
    return with_slip(draw, cells, values, ODD)


@st.composite
def classes(draw: st.DrawFn) -> Written:
    names = draw(st.lists(st.sampled_from(WORDS), min_size=2, max_size=5, unique=True))
    meant = [names[i % len(names)] for i in range(24)]
    first = meant[0]
    odd = (
        "",
        "nan",
        "-",
        "?",
        "3",
        "-0.5",
        "1,5",
        first.upper() + " ",
        f" {first}",
        first.title() + "\u00a0",
    )
    return with_slip(draw, list(meant), meant, odd)


def with_slip(
    draw: st.DrawFn, cells: list[str], meant: list[float] | list[str], odd: tuple[str, ...]
) -> Written:
    slip = draw(st.none() | st.integers(0, 23))
    if slip is not None:
        cells[slip] = draw(st.sampled_from(odd))
    return Written(cells, meant, slip)


def table(cells: list[str], separator: str, quoting: int, end: str, mark: bytes) -> bytes:
    target = io.StringIO()
    rows = [row | {"label": cell} for row, cell in zip(good_rows(), cells, strict=True)]
    writer = csv.DictWriter(
        target, list(rows[0]), delimiter=separator, quoting=quoting, lineterminator=end
    )  # type: ignore[arg-type]
    writer.writeheader()
    writer.writerows(rows)
    return mark + target.getvalue().encode()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    written=scores() | classes(),
    separator=st.sampled_from(",;\t"),
    end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    mark=st.sampled_from([b"", BYTE_ORDER_MARK]),
)
def test_labels_are_read_as_meant_or_refused_with_a_row(
    written: Written, separator: str, end: str, quoting: int, mark: bytes
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = write_folder(Path(name))
        (folder / "utterances.csv").write_bytes(table(written.cells, separator, quoting, end, mark))
        try:
            bundle = read_bundle("folder", [folder])
        except InputError as error:
            assert explained(written, error), str(error)
            event("refused")
            return
    if bundle.task.kind == "score":
        assert bundle.labels.tolist() == np.float32(written.meant).tolist()
    else:
        assert [bundle.task.names[label] for label in bundle.labels] == written.meant
    event("read")


def explained(written: Written, error: InputError) -> bool:
    """A slip is told by its row. Without one, only numbers that look like classes or are all alike may be refused."""
    named = re.search(r"in row (\d+) \(id '", error.found)
    if named:
        return int(named.group(1)) - 1 == written.slip
    values = [value for value in written.meant if isinstance(value, float)]
    whole = bool(values) and all(value >= 0 and value == int(value) for value in values)
    return (whole and "look like classes" in error.do) or (bool(values) and len(set(values)) == 1)
