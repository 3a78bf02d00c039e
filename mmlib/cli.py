"""The command line: ``mmlib COMMAND`` or ``python -m mmlib COMMAND``.

Exit codes: 0 all well, 1 something failed or results would be false, 2 bad input, 130 stopped by
Ctrl-C.
"""

from __future__ import annotations

import argparse
import errno
import io
import sys
import time
from collections.abc import Sequence
from typing import Any

import mmlib
from mmlib import options, store_commands
from mmlib.errors import InputError, unknown_name

EPILOG = """Start with `mmlib run --list` (lists all tables and figures) or `mmlib doctor` (checks this machine)."""


def entry() -> None:
    """The console script."""
    sys.exit(main(sys.argv[1:]))


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; bad input prints one message and no traceback."""
    for stream in (sys.stdout, sys.stderr):  # a path may hold bytes that are no text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    began = time.monotonic()
    parser = build_parser()
    try:
        options.check_values(sys.argv[1:] if argv is None else argv)
        args = parser.parse_args(argv)
        args.began = began
        return int(args.run(args))
    except SystemExit as stop:
        return int(stop.code or 0)
    except InputError as error:
        print(f"mmlib: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 1
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        print(
            f"mmlib: found a name that is longer than a file's may be: {str(error.filename)[:100]!r} ...; "
            "expected a shorter one. Correct it.",
            file=sys.stderr,
        )
        return 2


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; heavy modules are imported only by the command that needs them."""
    parser = argparse.ArgumentParser(
        prog="mmlib", description=mmlib.__doc__, epilog=EPILOG, allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"mmlib {mmlib.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    doctor = commands.add_parser(
        "doctor", help="check this machine and the installation, one line per check"
    )
    doctor.set_defaults(run=_doctor)
    _add_data(commands)
    _add_run(commands)
    _add_sweep(commands)
    _add_recipes(commands)
    _add_compare(commands)
    _add_decide(commands)
    _add_report(commands)
    store_commands.add_parsers(commands)
    _add_teach(commands)
    _add_bench(commands)
    return parser


def _add_run(commands: Any) -> None:
    running = commands.add_parser(
        "run",
        help="make runs, notebooks and figures (what run_all.sh calls)",
        allow_abbrev=False,
    )
    _add_selection(running)
    running.add_argument(
        "--force", action="store_true", help="execute notebooks that are up to date, too"
    )
    running.add_argument("--list", action="store_true", help="list the artifacts and stop")
    running.add_argument(
        "--update-notebooks",
        action="store_true",
        help="execute the notebooks of the repository in place and stop",
    )
    running.set_defaults(run=_run, alone=running.parse_args([]))


def _add_sweep(commands: Any) -> None:
    sweeping = commands.add_parser(
        "sweep", help="make runs only, and store their records", allow_abbrev=False
    )
    _add_selection(sweeping)
    sweeping.add_argument(
        "--max-minutes", type=float, metavar="M", help="stop cleanly after this many minutes"
    )
    sweeping.set_defaults(run=_sweep)


def _add_recipes(commands: Any) -> None:
    recipes = commands.add_parser(
        "recipes",
        help="search the learning rates of networks and methods on validation",
        description="Without DATA: show the recipes. With it: search them on these data and keep every trial.",
        allow_abbrev=False,
    )
    recipes.add_argument(
        "data",
        nargs="*",
        metavar="DATA",
        help="bundles, or twin:ROLE@SIZE; none: show what there is",
    )
    recipes.add_argument("--profile", default="laptop", help="quick or laptop (default)")
    recipes.add_argument(
        "--network",
        metavar="NAME[,NAME]",
        help="only these (default: all that take the data, then the methods over them)",
    )
    recipes.add_argument("--method", metavar="NAME[,NAME]", help="only the trials of these methods")
    recipes.add_argument("--jobs", type=int, metavar="N", help="runs at a time (default: cores)")
    recipes.add_argument(
        "--max-minutes", type=float, metavar="M", help="stop cleanly after this many minutes"
    )
    recipes.set_defaults(run=_recipes)


def _add_compare(commands: Any) -> None:
    comparing = commands.add_parser(
        "compare",
        help="find the method and network to use on your own data",
        description="Search recipes on validation where there is time for it, train every method and network that "
        "takes the data, spend further seeds on those that may still be the best, and write "
        "figures/DATA/compare/index.html. Stopped or out of time, the same command goes on.",
        allow_abbrev=False,
    )
    comparing.add_argument("data", metavar="DATA", help="a bundle, or twin:ROLE@SIZE")
    comparing.add_argument(
        "--minutes", type=float, metavar="M", help="stop after about this many (default: no limit)"
    )
    comparing.add_argument(
        "--rates",
        metavar="NAME=RATE[,...]",
        help="missing rates of your own, one for every modality: a training and a question more",
    )
    comparing.add_argument(
        "--profile", help="quick or laptop (default: quick below 30 minutes, else laptop)"
    )
    comparing.add_argument(
        "--systems",
        action="store_true",
        help="with the comparison systems of the papers' tables, which takes several times as long",
    )
    comparing.add_argument("--jobs", type=int, metavar="N", help="runs at a time (default: cores)")
    comparing.set_defaults(run=_compare)


def _add_decide(commands: Any) -> None:
    deciding = commands.add_parser(
        "decide",
        help="spend seeds on the papers' primary claims until each is decided",
        description="Make the runs of the claims that were named in advance, look at them after 10, 20, 40 and 80 "
        "seeds, stop at those that are supported, contradicted or equivalent, and draw the tables of claims. Stopped "
        "or out of time, the same command goes on.",
        allow_abbrev=False,
    )
    _add_papers(deciding)
    deciding.add_argument("--jobs", type=int, metavar="N", help="runs at a time (default: cores)")
    deciding.add_argument(
        "--label", metavar="NAME", help="name of the results' folder under figures/"
    )
    deciding.add_argument(
        "--max-minutes", type=float, metavar="M", help="stop cleanly after this many minutes"
    )
    deciding.set_defaults(run=_decide, artifact=None, seeds=0, executor=options.HERE)


def _add_report(commands: Any) -> None:
    report = commands.add_parser(
        "report",
        help="draw tables and figures from finished runs, without notebooks",
        allow_abbrev=False,
    )
    _add_selection(report)
    report.set_defaults(run=_report)


def _add_teach(commands: Any) -> None:
    teaching = commands.add_parser(
        "teach",
        help="write a course: copies of the notebooks for students, without outputs, and a start page",
        allow_abbrev=False,
    )
    teaching.add_argument("--out", required=True, metavar="DIR", help="folder of the copies")
    teaching.add_argument(
        "--paper", metavar="NAME[,NAME]", help="papers whose notebooks are copied (default: all)"
    )
    teaching.add_argument(
        "--repository",
        metavar="OWNER/NAME",
        help="the repository on GitHub: adds badges that open the notebooks in Colab and Binder",
    )
    teaching.add_argument(
        "--solutions",
        metavar="DIR",
        help="folder that gets the solutions of these notebooks, for the teacher",
    )
    teaching.set_defaults(run=_teach)


def _add_selection(parser: argparse.ArgumentParser) -> None:
    """What ``run``, ``sweep`` and ``report`` share: which results, from how many runs, and where these go."""
    _add_what(parser)
    _add_how(parser)


def _add_what(parser: argparse.ArgumentParser) -> None:
    _add_papers(parser)
    parser.add_argument("--artifact", metavar="ID[,ID]", help="only these tables and figures")
    parser.add_argument(
        "--seeds", type=int, default=0, metavar="N", help="paired seeds (default: the profile's)"
    )


def _add_papers(parser: argparse.ArgumentParser) -> None:
    """Which papers, at what cost, on which data."""
    parser.add_argument("--paper", metavar="NAME[,NAME]", help="papers (default: all)")
    parser.add_argument(
        "--profile", default="quick", help="smoke, quick (default), laptop or paper"
    )
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="BUNDLE|ROLE=BUNDLE",
        help="a bundle's name or folder: without a role, every paper that can takes them in the role "
        "that fits, and the others say why not; with a role, they fill it, and the option may be repeated; roles "
        "without data are left out",
    )
    parser.add_argument(
        "--rates",
        metavar="MODALITY=RATE[,...]",
        help="missing rates, one for each modality, in the place of the imbalanced settings of BALM and side by side "
        "(default: theirs, given to other modalities than audio, text and vision in turn)",
    )
    parser.add_argument(
        "--backbone",
        metavar="NAME[,NAME]",
        help="backbones of the method, the main one first (default: the paper's)",
    )


def _add_how(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--jobs",
        type=int,
        default=None,
        metavar="N",
        help="runs at a time (default: one per core, or per Dask worker)",
    )
    parser.add_argument(
        "--executor",
        default=options.HERE,
        metavar="local|dask:ADDRESS",
        help="where runs are made: on this machine, or by the workers of a Dask scheduler (docs/cluster.md)",
    )
    parser.add_argument(
        "--label", metavar="NAME", help="name of the results' folder under figures/"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the number of runs and the time that they take, for which up to three are made, and stop",
    )


def _add_data(commands: Any) -> None:
    from mmlib.data import commands as data

    data.add_parser(commands)
    commands.choices["data"].set_defaults(run=_data)


def _add_bench(commands: Any) -> None:
    from mmlib.bench import command

    parser = commands.add_parser(
        "bench", help="measure speed and memory on this machine", allow_abbrev=False
    )
    command.add_arguments(parser)
    parser.set_defaults(run=command.run)


def _data(args: argparse.Namespace) -> int:
    if args.command == "check":
        from mmlib.pipeline import data_check

        return data_check.run(args.bundle, args.role)
    from mmlib.data import commands

    return commands.run(args)


def _doctor(args: argparse.Namespace) -> int:
    from mmlib.doctor import main as doctor

    return doctor()


def _contexts(args: argparse.Namespace) -> tuple[list[Any], bool]:
    """The contexts of the chosen papers, and whether any refused data that were given for its role.

    A refusal is printed. Data that were given without a role are only offered, so that a paper that does not take them
    is no failure; the role in which each of the others takes them is printed too.

    Raises:
        InputError: an option that is wrong for all, or data that no chosen paper takes.
    """
    from mmlib.experiments.context import NO_ROLE
    from mmlib.experiments.roles import check_tasks
    from mmlib.experiments.takes import DataRefused
    from mmlib.papers import catalog

    if args.executor != options.HERE:
        from mmlib.runs.on_dask import address_of

        address_of(args.executor)
    options.at_least_one("--jobs", args.jobs)
    backbone, label = options.one("--backbone", args.backbone), options.one("--label", args.label)
    options.names("--backbone", args.backbone)
    data, ids = catalog.parse_data(args.data), _ids(args)
    offered, rates = NO_ROLE in data, options.rates("--rates", args.rates)
    chosen = _chosen_papers(args, data, backbone, ids)
    if rates and not any(paper.rated for paper in chosen):
        raise InputError("--rates", "no paper with rates", "balm or side_by_side", "Leave it out.")
    contexts, refusals = [], []
    for paper in chosen:
        try:
            bundles = catalog.data_for(paper, data, chosen)
            own = rates if paper.rated else {}
            made = paper.context(args.profile, bundles, backbone, label, args.seeds, rates=own)
            if data and not offered:
                check_tasks(made)
        except DataRefused as refusal:
            refusals.append(refusal)
            continue
        contexts.append(made)
        if offered:
            print(f"mmlib: {paper.called} takes {_in_role(made)}", file=sys.stderr)
    last = refusals.pop() if refusals and not contexts else None
    for left_out in refusals:
        print(f"mmlib: left out: {left_out}", file=sys.stderr)
    if last:
        raise last
    return contexts, bool(refusals) and not offered


def _chosen_papers(args: argparse.Namespace, data: Any, backbone: str, ids: list[str]) -> list[Any]:
    """The papers that are named, or those that data, backbone and artifacts leave.

    Raises:
        InputError: no such paper, or an artifact that none of them has.
    """
    from mmlib.papers import catalog

    papers = options.names("--paper", args.paper, catalog.PAPERS) or catalog.papers_for(
        data, backbone, ids
    )
    chosen = [catalog.paper_of(name) for name in papers]
    artifacts = dict.fromkeys(a.id for paper in chosen for a in paper.artifacts)
    for name in ids:
        if name not in artifacts:
            raise unknown_name(f"artifact of {', '.join(papers)}", name, artifacts)
    return chosen


def _in_role(context: Any) -> str:
    """Which data a paper took, and as what."""
    role, reference = next(iter(context.data.items()))
    return f"{reference} in the role {role}."


def _ids(args: argparse.Namespace) -> list[str]:
    return options.names("--artifact", args.artifact)


def _run(args: argparse.Namespace) -> int:
    if args.update_notebooks:
        from mmlib.pipeline import notebooks

        options.alone("--update-notebooks", args, args.alone)
        return notebooks.update_notebooks()
    from mmlib.pipeline import job

    if args.force:
        _check_force(args)
    contexts, refused = _contexts(args)
    if args.list:
        code = job.list_artifacts(contexts, _ids(args))
    elif args.dry_run:
        code = job.dry_run(contexts, _ids(args), args.jobs, draws=True, began=args.began)
    else:
        code = job.run(contexts, _ids(args), args.jobs, args.executor, args.force)
    return max(code, int(refused))


def _check_force(args: argparse.Namespace) -> None:
    """Refuse ``--force`` where no notebook would be executed.

    Raises:
        InputError: an option beside it that executes none.
    """
    for option in ("artifact", "list", "dry_run"):
        if getattr(args, option):
            raise InputError(
                "--force",
                f"--{option.replace('_', '-')} beside it, which executes no notebook",
                "one of the two",
                "Leave one out.",
            )


def _sweep(args: argparse.Namespace) -> int:
    from mmlib.pipeline import job

    options.minutes("--max-minutes", args.max_minutes)
    contexts, refused = _contexts(args)
    if args.dry_run:
        code = job.dry_run(contexts, _ids(args), args.jobs, began=args.began)
    else:
        code = job.sweep_all(contexts, _ids(args), args.jobs, args.max_minutes, args.executor)
    return max(code, int(refused))


def _recipes(args: argparse.Namespace) -> int:
    from mmlib.pipeline import recipes

    options.minutes("--max-minutes", args.max_minutes)
    networks = tuple(options.names("--network", args.network))
    methods = tuple(options.names("--method", args.method))
    if not args.data:
        if networks or methods:
            raise InputError("DATA", "none", "data to search on", "Name some, or show all recipes.")
        print(recipes.shown())
        return 0
    for name in args.data:
        if args.data.count(name) > 1:
            raise InputError("DATA", f"{name} twice", "each once", "Leave one out.")
    wanted = recipes.Wanted(networks, methods)
    return recipes.search_all(args.data, args.profile, wanted, args.jobs, args.max_minutes)


def _compare(args: argparse.Namespace) -> int:
    from mmlib.compare import begin

    options.minutes("--minutes", args.minutes)
    options.at_least_one("--jobs", args.jobs)
    rates = options.rates("--rates", args.rates)
    profile = options.one("--profile", args.profile) or None
    print(begin.announcement(args.data, args.minutes, profile), flush=True)
    from mmlib.compare import command  # seconds, of which the line above is not to wait

    return command.compare(args.data, args.minutes, profile, rates, args.jobs, args.systems)


def _decide(args: argparse.Namespace) -> int:
    from mmlib.pipeline.decide import decide

    options.minutes("--max-minutes", args.max_minutes)
    contexts, refused = _contexts(args)
    return max(decide(contexts, args.jobs, args.max_minutes), int(refused))


def _report(args: argparse.Namespace) -> int:
    from mmlib.pipeline import job

    contexts, refused = _contexts(args)
    if args.dry_run:
        code = job.dry_run(contexts, _ids(args), args.jobs)
    else:
        code = job.report(contexts, _ids(args))
    return max(code, int(refused))


def _teach(args: argparse.Namespace) -> int:
    from pathlib import Path

    from mmlib import files, paths, teach
    from mmlib.papers.catalog import PAPERS

    chosen = options.names("--paper", args.paper, PAPERS) or list(PAPERS)
    out, repository = options.one("--out", args.out), options.one("--repository", args.repository)
    chosen_notebooks = [paths.notebooks() / PAPERS[name].notebook for name in chosen]
    apart = options.one("--solutions", args.solutions)
    page = paths.notebooks().parent / "docs" / "solutions.md"
    solved = teach.solutions(page, chosen_notebooks, Path(apart)) if apart else ""
    copies = teach.student_copies(chosen_notebooks, Path(out), repository)
    print("\n".join(str(path) for path in (Path(out) / teach.START, *copies)))
    if apart:
        files.write(Path(apart) / "solutions.md", solved.encode("utf-8"))
        print(Path(apart) / "solutions.md")
    else:
        print("Solutions, with an explanation each: --solutions FOLDER, or docs/solutions.md.")
    return 0
