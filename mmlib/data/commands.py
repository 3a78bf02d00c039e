"""The command line of the data: ``mmlib data list | import | check | twin``."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmlib import names, options, paths
from mmlib.data.readers import READERS, read_bundle
from mmlib.errors import InputError

if TYPE_CHECKING:
    from mmlib.data.bundle import Bundle

EXAMPLES = {
    "import": """examples:
  mmlib data import folder my-data --name mine            (standardises the features)
  mmlib data import folder my-data --name mine --raw      (keeps their values)
  mmlib data import bclstm-mosi mosi-bclstm CMUMOSI_features_raw_2way.pkl --option split=leaky
  mmlib data import mmmo mmmo-frames --standardise --name mmmo
  mmlib data import gcnet CMUMOSEI --option task=mosei --out bundles/mosei

formats:
""",
    "check": """examples:
  mmlib data check mosi-bclstm --role mosi
  mmlib data check twin:mosei@quick

exit code: 0 results would be true (warnings name what to say beside them), 1 they would be false, 2 bad input""",
    "twin": """examples:
  mmlib data twin iemocap6 --size smoke --out my-twin
  mmlib data twin crema-d --size tiny""",
    "list": "example:\n  mmlib data list",
}


def add_parser(subparsers: Any) -> None:
    """Add ``data`` and its four commands to the subparsers of ``mmlib``."""
    parser = subparsers.add_parser(
        "data",
        help="data sets: list, import, check, twin",
        description="Import data sets, list them, and check them.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add(commands, "list", "bundles, embedded data, twins and readers", EXAMPLES["list"])
    _add_import(commands)
    checking = _add(
        commands,
        "check",
        "describe a bundle, look for leaks, compare it with the papers, and say which notebooks take it",
        EXAMPLES["check"],
    )
    checking.add_argument("bundle", metavar="BUNDLE", help="a name, a folder, or twin:ROLE@SIZE")
    checking.add_argument("--role", help="the role to compare with")
    _add_twin(commands)


def _add_import(commands: Any) -> None:
    importing = _add(
        commands,
        "import",
        "read files of a public format into a bundle",
        EXAMPLES["import"] + _formats(),
    )
    importing.add_argument("format", metavar="FORMAT", help="one of " + ", ".join(READERS))
    importing.add_argument(
        "paths", metavar="PATH", nargs="+", type=Path, help="files or folders, as the format asks"
    )
    importing.add_argument(
        "--out", metavar="DIR", help="bundle folder (default: data/bundles/NAME)"
    )
    importing.add_argument("--name", help="the bundle's name (default: the reader's)")
    importing.add_argument(
        "--standardise",
        action="store_true",
        help="mean 0 and standard deviation 1 in every dimension, over the training split (the default for folder)",
    )
    importing.add_argument(
        "--raw", action="store_true", help="keep the values of a folder's features as they are"
    )
    importing.add_argument(
        "--option", action="append", default=[], metavar="KEY=VALUE", help="repeatable"
    )


def _add_twin(commands: Any) -> None:
    twin = _add(commands, "twin", "write a twin as a bundle", EXAMPLES["twin"])
    twin.add_argument("role", metavar="ROLE", help="one that `list` shows")
    twin.add_argument(
        "--size", default="quick", help="quick (default) or another that `list` shows"
    )
    twin.add_argument("--out", metavar="DIR", help="bundle folder (default: data/bundles/NAME)")


def run(args: argparse.Namespace) -> int:
    """Run the command that was parsed, but for ``check``, which asks the papers too: ``mmlib.pipeline.data_check``.

    Raises:
        InputError: bad input; nothing is written.
    """
    if args.command == "import":
        return _import(args)
    if args.command == "twin":
        from mmlib.data.catalog import open_bundle

        options.one("--out", args.out)
        _write(open_bundle(f"twin:{args.role}@{args.size}"), args.out)
        return 0
    print("\n".join(_list()))
    return 0


def _add(commands: Any, name: str, help: str, epilog: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        description=help[0].upper() + help[1:] + ".",
        epilog=epilog,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def _formats() -> str:
    lines = []
    for name, reader in READERS.items():
        lines.append(f"  {name} {reader.paths}\n      {reader.help}")
        lines += [f"      --option {option}=  {text}" for option, text in reader.options.items()]
    return "\n".join(lines)


def _options(pairs: Sequence[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise InputError(
                "--option", repr(pair), "KEY=VALUE", "Write for example --option split=leaky."
            )
        if key in given:
            raise InputError("--option", f"{key} twice", "each key once", "Leave one out.")
        given[key] = value
    return given


def _import(args: argparse.Namespace) -> int:
    from mmlib.data.check import compare_files, findings
    from mmlib.data.missing import missing_lines
    from mmlib.data.scales import scale_lines

    options.one("--out", args.out)
    if args.name is not None:
        names.check_bundle_name("--name", args.name)
    if args.raw and args.standardise:
        raise InputError("--raw", "--standardise beside it", "one of the two", "Leave one out.")
    read = read_bundle(args.format, args.paths, _options(args.option), wide=not args.raw)
    sources = compare_files(read.name, args.paths)
    bundle = dataclasses.replace(_scaled(read, args), name=args.name or read.name)
    if args.format == "folder":
        _check_own_name(bundle.name)
    _write(bundle, args.out)
    following = f"next: mmlib data check {args.out or bundle.name}"
    as_read = [f"as read: {line}" for line in scale_lines(read)] if bundle.scaling else []
    lacking = [] if bundle.observed.all() else missing_lines(bundle)
    told = [*sources, *as_read, *_told(bundle, args), *scale_lines(bundle), *lacking]
    told += findings(bundle)
    print("\n".join([*told, following]))
    return 0


def _check_own_name(name: str) -> None:
    """Hold a reader's own data to a name that no committed result has.

    Raises:
        InputError: the name is that of data whose results come with the repository.
    """
    from mmlib.data import embedded

    if name.lower() in {*embedded.KINDS, *names.REAL}:
        raise InputError(
            "--name",
            f"{name!r}, whose results come with the repository",
            "another name, so that yours stand apart",
            "Give another --name.",
        )


def _scaled(bundle: Bundle, args: argparse.Namespace) -> Bundle:
    """A bundle as an import keeps it: a folder's features standardised, those of published layouts if asked."""
    from mmlib.data.standardise import standardised, standardised_where_possible

    if args.standardise:
        return standardised(bundle)
    own = args.format == "folder" and not args.raw
    return standardised_where_possible(bundle) if own else bundle


def _told(bundle: Bundle, args: argparse.Namespace) -> list[str]:
    """What was standardised, and how the values can be kept."""
    if not bundle.scaling:
        return []
    over = "train" if bundle.fold is None else "train, and in each fold over its own training rows"
    keeps = "" if args.standardise else " (--raw keeps the values)"
    return [
        f"standardised: {', '.join(sorted(bundle.scaling))}: each dimension less its mean and over its sd in {over}; "
        f"observed utterances and frames that exist count{keeps}"
    ]


def _write(bundle: Bundle, out: str | None) -> None:
    from mmlib.data.bundle import SPLITS, save_bundle
    from mmlib.data.described import has_dialogues

    names.check_bundle_name("--name", bundle.name)
    folder = Path(out) if out else paths.bundles() / bundle.name
    before = _fingerprint_there(folder)
    save_bundle(bundle, folder)
    spoken = has_dialogues(bundle)
    counts = ", ".join(
        f"{s} {len(bundle.rows(s))}" + f" ({len(bundle.dialogues(s))} dialogues)" * spoken
        for s in SPLITS
    )
    dims = ", ".join(f"{m} {d}" for m, d in bundle.dims.items())
    print(
        f"{bundle.name}: {len(bundle)} utterances: {counts}; {dims}; fingerprint {bundle.fingerprint}"
    )
    print(f"written: {folder}")
    if before and before != bundle.fingerprint:
        print(
            f"replaced: the bundle {bundle.name} that stood there, fingerprint {before}; results on it in figures/ "
            "stay until they are made again"
        )


def _fingerprint_there(folder: Path) -> str:
    """The fingerprint of the bundle in a folder; empty where there is none that can be read."""
    from mmlib.data.bundle import load_bundle
    from mmlib.data.keep import HEAD

    try:
        return load_bundle(folder).fingerprint if (folder / HEAD).exists() else ""
    except (InputError, OSError, ValueError):
        return ""


def _list() -> list[str]:
    from mmlib.data import catalog, embedded
    from mmlib.data.av_twins import AV_ROLES
    from mmlib.data.twin_laws import FRAME_ROLES, ROLES

    bundles = catalog.names()
    lines = (
        ["bundles:", *(f"  {name}" for name in bundles)] if bundles else ["bundles: none imported"]
    )
    sizes = {role: tuple(law.shapes) for role, law in (*ROLES.items(), *FRAME_ROLES.items())}
    sizes |= {role: tuple(law.shapes) for role, law in AV_ROLES.items()}
    lines += ["embedded:", *(f"  {name}: {kind}" for name, kind in embedded.KINDS.items())]
    lines += [
        "twins (synthetic):",
        *(f"  twin:{role}@ {', '.join(shapes)}" for role, shapes in sizes.items()),
    ]
    return [
        *lines,
        "readers:",
        *(f"  {name} {reader.paths}: {reader.help}" for name, reader in READERS.items()),
    ]
