"""The commands for stores of runs and for kept models: ``store``, ``export`` and ``predict``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mmlib import options
from mmlib.errors import InputError


def add_parsers(commands: Any) -> None:
    """Add the three commands to a parser's."""
    _add_store(commands)
    _add_export(commands)
    _add_predict(commands)


def _add_export(commands: Any) -> None:
    exporting = commands.add_parser(
        "export",
        help="keep a run's model: weights and what is needed to use them, in a folder",
        description="Write the model of a run, with the weights of the epoch that validation picks. A run that kept "
        "no weights is trained again. The predictions of the model must be those that the run has stored.",
        allow_abbrev=False,
    )
    exporting.add_argument("run_id", metavar="RUN_ID", help="as in records.csv, or `store table`")
    exporting.add_argument(
        "--out", required=True, metavar="DIR", help="a new folder, or that of an earlier export"
    )
    exporting.add_argument(
        "--store", metavar="STORE", help="where the run is (default: MMLIB_RUNS, or runs)"
    )
    exporting.set_defaults(run=_export)


def _add_predict(commands: Any) -> None:
    predicting = commands.add_parser(
        "predict",
        help="apply an exported model to a bundle or to a folder of features",
        description="Write a CSV file with the prediction for each utterance. Labels are not needed, and modalities "
        "may be missing.",
        allow_abbrev=False,
    )
    predicting.add_argument("model", metavar="DIR", help="what `mmlib export` wrote")
    predicting.add_argument(
        "input",
        metavar="BUNDLE_OR_FOLDER",
        help="a bundle, or a folder with utterances.csv (id) and one .npy per modality",
    )
    predicting.add_argument("--out", required=True, metavar="FILE", help="the CSV file to write")
    predicting.set_defaults(run=_predict)


def _add_store(commands: Any) -> None:
    store = commands.add_parser(
        "store",
        help="compare or merge two stores of runs, adopt stale ones, check one, or list its records",
        allow_abbrev=False,
    )
    store.add_argument(
        "action",
        choices=("compare", "merge", "adopt", "check", "table"),
        help="check: compare every file with its checksum and list damaged, failed and stale runs; "
        "table: write every result as a line of a CSV file",
    )
    store.add_argument("first", metavar="STORE")
    store.add_argument(
        "second", metavar="STORE", nargs="?", help="merge copies what STORE 2 has into STORE 1"
    )
    store.add_argument(
        "--against",
        default=None,
        metavar="CHECKOUT",
        help="adopt: a checkout of the code that made the runs; runs of both versions are compared on this "
        "machine, so that runs of another machine can be adopted as well",
    )
    store.add_argument(
        "--witnesses",
        type=int,
        default=1,
        metavar="N",
        help="adopt: number of stale runs of each group that are repeated to show that no result has changed",
    )
    store.add_argument("--out", default=None, metavar="FILE", help="table: the CSV file to write")
    store.set_defaults(run=_store)


def _store(args: argparse.Namespace) -> int:
    from mmlib.runs.compare import compare
    from mmlib.runs.store import Store

    new = args.action == "merge" and not options.is_there(Path(options.one("STORE", args.first)))
    first = Store(Path(args.first) if new else options.folder_there("STORE", args.first))
    options.at_least_one("--witnesses", args.witnesses)
    if args.action == "table":
        return _store_table(args, first)
    if args.out is not None:
        raise InputError(f"store {args.action}", "--out", "no such option", "Leave it out.")
    if args.action == "adopt":
        return _store_adopt(args, first)
    if args.action == "check":
        from mmlib.runs.check_store import check_store

        checked = check_store(first)
        print("\n".join(checked.lines()))
        return int(bool(checked.damaged))
    if args.second is None:
        raise InputError(f"store {args.action}", "one store", "two", "Name the other.")
    second = Store(options.folder_there("STORE 2", args.second))
    if args.action == "merge":
        from mmlib.runs.check_store import check_is_store

        check_is_store(second)
        print(f"{first.merge(second)} runs copied from {args.second} into {args.first}")
        return 0
    frame = compare(first, second)
    print(frame.to_string(index=False) if len(frame) else "no run in either store")
    return 0


def _store_adopt(args: argparse.Namespace, first: Any) -> int:
    from mmlib.runs.adopt import adopt
    from mmlib.runs.against import adopt_against

    if args.second is not None:
        raise InputError("store adopt", "two stores", "one", "Leave the other out.")
    if args.against is None:
        groups = adopt(first, args.witnesses)
    else:
        groups = adopt_against(
            first, options.folder_there("--against", args.against), args.witnesses
        )
    print(f"{sum(g.adopted for g in groups)} of {sum(g.stale for g in groups)} stale runs adopted")
    return int(any(not g.equal for g in groups))


def _store_table(args: argparse.Namespace, store: Any) -> int:
    from mmlib import files
    from mmlib.report.artifact import csv_bytes
    from mmlib.report.tables import records_frame
    from mmlib.runs.check_store import is_stale

    if args.second is not None:
        raise InputError("store table", "two stores", "one", "Leave the other out.")
    if args.out is None:
        raise InputError("store table", "no --out", "a file", "Give for example --out runs.csv.")
    options.file_to_write("--out", args.out)
    if not args.out.lower().endswith(".csv"):
        raise InputError(
            "--out",
            repr(args.out[-200:]),
            "a name that ends in .csv",
            "Write CSV; pandas.read_csv(FILE).to_parquet(...) makes Parquet of it where pyarrow is installed.",
        )
    contents = [{**record.content, "stale": is_stale(record.content)} for record in store.records()]
    frame = records_frame(contents)
    files.write(Path(args.out), csv_bytes(frame))
    print(f"written: {args.out}: {len(frame):,} results of {len(contents):,} runs")
    return 0


def _export(args: argparse.Namespace) -> int:
    from mmlib import paths
    from mmlib.runs.export import export_run
    from mmlib.runs.store import Store

    out, store = options.one("--out", args.out), options.one("--store", args.store)
    folder = options.folder_there("--store", store) if store else paths.runs()
    card = export_run(args.run_id, Path(out), Store(folder))
    for name, test in card.content["tests"].items():
        shown = list(test["metrics"].items())[:2]
        print(f"{name}: {', '.join(f'{metric} {value:.4g}' for metric, value in shown)}")
    print(
        "predictions: they agree with those that the run has stored, under each of these test masks"
    )
    print(f"written: {out}")
    return 0


def _predict(args: argparse.Namespace) -> int:
    from mmlib.runs.predict import predict_to

    model = options.folder_there("DIR", args.model)
    options.file_to_write("--out", options.one("--out", args.out))
    print("\n".join(predict_to(model, args.input, Path(args.out))))
    return 0
