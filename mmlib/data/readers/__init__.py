"""The readers of public formats, one file each. ``READERS`` is the list of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from mmlib.errors import InputError, unknown_name

if TYPE_CHECKING:
    from mmlib.data.bundle import Bundle

CLIPS = {
    "size": "height and width of a frame in pixels (224)",
    "cache": "folder of the decoded clips, so that a stopped import goes on (.cache beside the bundles)",
    "jobs": "clips decoded at a time (one per core)",
}


@dataclass(frozen=True)
class Reader:
    """One format."""

    module: str
    """The file of this folder whose ``read`` reads it; imported when it is needed, since help and lists need none."""

    help: str
    """What the format is, in one line."""

    paths: str
    """What the paths are, as help shows them."""

    options: Mapping[str, str] = field(default_factory=dict)
    """Option name to one line of help."""

    wide: bool = False
    """Whether the file also has ``read_wide``, which keeps features in the 64 bits of their files."""

    @property
    def read(self) -> Callable[..., Bundle]:
        """The function that reads it, called with the paths, and the options as strings."""
        read: Callable[..., Bundle] = import_module(f"{__name__}.{self.module}").read
        return read

    @property
    def read_wide(self) -> Callable[..., Bundle]:
        """The same without rounding."""
        read: Callable[..., Bundle] = import_module(f"{__name__}.{self.module}").read_wide
        return read


READERS: dict[str, Reader] = {
    "folder": Reader(
        "folder",
        "your own data: utterances.csv and one <modality>.npy each; standardised over train unless --raw",
        "FOLDER",
        {
            "valid": "share of train held out where no row is marked valid (0.1)",
            "zeros": "kept (the default) or missing (rows of zeros alone are missing by nature)",
        },
        wide=True,
    ),
    "bclstm-mosi": Reader(
        "bclstm_mosi",
        "CMU-MOSI features of the contextual-LSTM papers",
        "FOLDER SCORES.pkl",
        {
            "split": "unseen (5 folds of the 31 unseen videos, the default) or leaky (the standard training videos)"
        },
    ),
    "gcnet": Reader(
        "gcnet",
        "the layout of GCNet, MoMKE, EBMC and MCULoRA",
        "ROOT, or INDEX.pkl FEATURES",
        {
            "task": "mosi (default), mosei, iemocap4 or iemocap6",
            "audio": "feature folder (wav2vec-large-c-UTT)",
            "text": "feature folder (deberta-large-4-UTT)",
            "vision": "feature folder (manet_UTT)",
        },
    ),
    "erc-pickle": Reader(
        "erc_pickle",
        "dialogue pickles of MMGCN, SDT and M3NET",
        "FEATURES.pkl [ROBERTA.pkl]",
        {
            "fields": "positions in the tuple that differ, such as text:3,train:7",
            "text": "of four text variants: mean (default), 1, 2, 3 or 4",
            "classes": "names of the label numbers (hap,sad,neu,ang,exc,fru)",
        },
    ),
    "crema-d-votes": Reader(
        "crema_d_votes", "CREMA-D as its raters judged voice and face", "FOLDER"
    ),
    "crema-d": Reader(
        "crema_d",
        "CREMA-D's raw clips: AudioWAV, VideoFlash, train.csv, test.csv",
        "FOLDER",
        {"frames": "evenly spaced frames of each clip (1)", **CLIPS},
    ),
    "ave": Reader(
        "ave",
        "AVE's raw clips: AVE, Annotations.txt, trainSet.txt, valSet.txt, testSet.txt",
        "FOLDER",
        {
            "frames": "evenly spaced frames of each clip (3)",
            "seconds": "length that the sound is tiled to (10)",
            "rate": "Hz that the sound is resampled to (22050)",
            "hop": "samples between spectrogram columns (353)",
            "event": "cut (to the annotated seconds, the default) or whole",
            "repeats": "a video named twice: first (one row of it, test before valid before train, the default) "
            "or keep",
            **CLIPS,
        },
    ),
    "mmsa": Reader(
        "mmsa",
        "MMSA's frames of CMU-MOSI and CMU-MOSEI",
        "aligned_50.pkl, or unaligned_50.pkl",
        {
            "task": "mosi (default) or mosei",
            "lengths": "file (those that the file states, the default) or zeros (frames that are zero are padding)",
        },
    ),
    "mult-iemocap": Reader(
        "mult_iemocap",
        "MulT's frames of IEMOCAP, four emotions",
        "iemocap_data.pkl, or iemocap_data_noalign.pkl",
        {
            "task": "binaries (four binary labels, the default) or classes (utterances of exactly one emotion)"
        },
    ),
    "mmmo": Reader("mmmo", "MMMO product reviews, 20 word-aligned steps", "FOLDER"),
}


def read_bundle(
    format: str,
    paths: Sequence[Path],
    options: Mapping[str, str] | None = None,
    wide: bool = False,
) -> Bundle:
    """Read files in a named format.

    wide: keep features in the 64 bits of their files where the reader can, for ``standardise`` to round.

    Raises:
        InputError: an unknown format or option (with the nearest known one), and whatever the
            reader finds wrong with the files.
    """
    if format not in READERS:
        raise unknown_name("format", format, READERS)
    reader = READERS[format]
    for name in options or {}:
        if not reader.options:
            raise InputError(f"format {format}, option", repr(name), "no options", "Leave it out.")
        if name not in reader.options:
            raise unknown_name(f"format {format}, option", name, reader.options)
    try:
        read = reader.read_wide if wide and reader.wide else reader.read
        return read([Path(p) for p in paths], **(options or {}))
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        MemoryError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise InputError(
            ", ".join(map(str, paths)),
            f"content that this reader cannot take ({error!r})",
            f"{reader.paths} of {reader.help}",
            "Compare the files with data/README.md.",
        ) from error
