"""The set-up: pins, metadata, run_all.sh (with a stand-in for Python, so nothing is installed) and the doctor."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import mmlib
from mmlib import doctor

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
STAND_IN = """#!/usr/bin/env bash
case "$1 $2" in
    "-m venv") echo venv >>"$CALLS"; rm -rf "$4"; mkdir -p "$4/bin"; cp "$0" "$4/bin/python" ;;
    "-m pip") sleep "${PIP_SECONDS:-0}"; echo pip "${@: -1}" >>"$CALLS"; exit "${PIP_RC:-0}" ;;
    "-m pytest" | "-m mmlib")
        printf '%s;' "$@" "cwd=$PWD" "threads=${OMP_NUM_THREADS:-}" "profile=${MMLIB_PROFILE:-}" >>"$CALLS"
        echo >>"$CALLS"
        case "$*" in *nbval*) exit "${NBVAL_RC:-0}" ;; *) exit "${RUN_RC:-0}" ;; esac ;;
    *) exec REAL "$@" ;;
esac
"""


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def declared(*extras: str) -> set[str]:
    """Names that pyproject depends on, with those of the named extras."""
    project = pyproject()["project"]
    lines = project["dependencies"] + [
        d for e in extras for d in project["optional-dependencies"][e]
    ]
    return {canonicalize_name(Requirement(line).name) for line in lines}


def lock_lines() -> list[str]:
    return [
        line for line in LOCK.read_text(encoding="utf-8").splitlines() if not line.startswith("#")
    ]


def required_by(roots: set[str]) -> set[str]:
    """Everything that these packages need here, through all levels, themselves included."""
    seen: set[tuple[str, str]] = set()
    todo = [(name, "") for name in roots]
    while todo:
        name, extra = todo.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for line in metadata.requires(name) or []:
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                todo += [(canonicalize_name(need.name), e) for e in ("", *need.extras)]
    return {name for name, _ in seen}


def test_the_lock_has_exact_public_versions_only() -> None:
    pins = [Requirement(line) for line in lock_lines()]
    for pin in pins:
        assert re.fullmatch(r"==[0-9][0-9a-z.]*", str(pin.specifier)), pin
        assert pin.url is None
    names = [canonicalize_name(pin.name) for pin in pins]
    assert len(names) == len(set(names))
    assert lock_lines() == sorted(lock_lines(), key=str.lower)


def test_what_is_installed_is_what_the_lock_says() -> None:
    for name, version in doctor.read_lock(LOCK).items():
        assert metadata.version(name).split("+")[0] == version, name


def test_the_lock_holds_all_declared_packages_and_nothing_that_none_of_them_needs() -> None:
    roots = declared("dev") | {"setuptools"}
    pinned = {canonicalize_name(name) for name in doctor.read_lock(LOCK)}
    assert roots <= pinned
    assert pinned <= required_by(roots)


def test_locked_versions_satisfy_the_declared_bounds() -> None:
    pinned = {canonicalize_name(n): v for n, v in doctor.read_lock(LOCK).items()}
    project = pyproject()["project"]
    for line in project["dependencies"] + project["optional-dependencies"]["dev"]:
        need = Requirement(line)
        assert pinned[canonicalize_name(need.name)] in need.specifier, line


def test_the_conda_environment_takes_its_packages_from_the_lock() -> None:
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert conda["name"] == "mmlib"
    *plain, pip = conda["dependencies"]
    assert pip == {"pip": ["-r requirements.lock", "-e ."]}
    assert [p.partition("=")[0] for p in plain] == [
        "python",
        "pip",
    ]  # no second place that pins a package
    python = next(p for p in plain if p.startswith("python=")).partition("=")[2]
    assert python in Requirement(f"python{pyproject()['project']['requires-python']}").specifier


def test_every_import_of_the_package_is_declared() -> None:
    providers = metadata.packages_distributions()
    lacking = set()
    for path in (ROOT / "mmlib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for top in {n.partition(".")[0] for n in names} - sys.stdlib_module_names - {"mmlib"}:
                known = {canonicalize_name(d) for d in providers.get(top, [top])}
                if not known & declared("cluster"):
                    lacking.add((top, path.name))
    assert not lacking, f"add to pyproject.toml's dependencies: {sorted(lacking)}"


def test_citation_and_licence() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {
        "cff-version",
        "message",
        "title",
        "authors",
    } <= citation.keys()  # what the format requires
    assert citation["version"] == mmlib.__version__
    assert citation["license"] == pyproject()["project"]["license"] == "MIT"
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8").splitlines()
    assert licence[:3] == ["MIT License", "", "Copyright (c) 2026 The mmlib authors"]


@pytest.mark.parametrize("script", ["run_all.sh", ".ci/run"])
def test_scripts_parse_and_can_be_executed(script: str) -> None:
    subprocess.run(["bash", "-n", str(ROOT / script)], check=True)
    assert os.access(ROOT / script, os.X_OK)


def test_continuous_integration_ends_with_the_tests() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert "set -euo pipefail" in lines
    assert lines[-1] == "./run_all.sh test"


def test_no_file_names_this_machine_or_a_package_host() -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git clone")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    # This checkout's own place and the usual homes of people and scratch files; a build of torch for one machine.
    places = "|".join(
        re.escape(str(place)) for place in (ROOT, ROOT.parent, Path.home()) if len(place.parts) > 1
    )
    local = re.compile(rf"(?:^|[^A-Za-z0-9_.~-])(?:{places}|/(?:home|root|tmp|opt))/|\d[+]cpu\b")
    hosts = ("python" + "hosted.org", "pypi" + ".org")
    found = []
    for name in filter(None, listed):
        path = ROOT / name
        if path.suffix in (".svg", ".png", ".xz", ".safetensors") or not path.is_file():
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if (hit := local.search(line)) or any(host in line for host in hosts):
                found.append(f"{name}:{number}: {hit[0] if hit else 'a package host'}")
    assert not found, "\n".join(found)


class Clone:
    """A clone with nothing but run_all.sh, where Python is a stand-in that notes its calls."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a clone"
        (self.root / "notebooks").mkdir(parents=True)
        (self.root / "notebooks" / "01.ipynb").touch()
        shutil.copy(ROOT / "run_all.sh", self.root)
        (self.root / "requirements.lock").write_text("torch==1\n")
        self.bin, self.log = folder / "bin", folder / "calls"
        self.bin.mkdir()
        self.log.touch()
        self.python(STAND_IN.replace("REAL", f"'{sys.executable}'"))

    def python(self, text: str, name: str = "python3") -> None:
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)

    def start(
        self, *arguments: str, root: Path | None = None, stderr: int = subprocess.STDOUT, **env: str
    ) -> subprocess.Popen[str]:
        names = {
            k: v for k, v in os.environ.items() if not k.startswith(("MMLIB_", "OMP_", "PIP_"))
        }
        names |= {"PATH": f"{self.bin}:{names['PATH']}", "CALLS": str(self.log), **env}
        return subprocess.Popen(
            [str((root or self.root) / "run_all.sh"), *arguments],
            env=names,
            cwd=self.bin,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )

    def run(self, *arguments: str, root: Path | None = None, **env: str) -> tuple[int, str]:
        process = self.start(*arguments, root=root, **env)
        output = process.communicate(timeout=60)[0]
        return process.returncode, output

    def calls(self) -> list[str]:
        """What was called since the last look."""
        found = self.log.read_text().splitlines()
        self.log.write_text("")
        return found


INSTALL = ["venv", "pip {root}/requirements.lock", "pip {root}"]


def installs(root: Path) -> list[str]:
    return [line.format(root=root) for line in INSTALL]


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def test_the_first_call_installs_then_runs_and_the_second_only_runs(clone: Clone) -> None:
    run = f"-m;mmlib;run;--data;mosi=my data;--seeds;2;cwd={clone.bin};threads=;profile=;"
    arguments = ("--data", "mosi=my data", "--seeds", "2")
    assert clone.run(*arguments)[0] == 0
    assert clone.calls() == [*installs(clone.root), run]
    assert clone.run(*arguments, RUN_RC="2")[0] == 2
    assert clone.calls() == [run]


def test_setup_alone_runs_nothing(clone: Clone) -> None:
    assert clone.run("setup")[0] == 0
    assert clone.calls() == installs(clone.root)
    code, output = clone.run("setup", "more")
    assert code != 0
    assert "more" in output


def test_a_terminal_sees_the_seconds_pass(clone: Clone) -> None:
    ours, theirs = os.openpty()
    process = clone.start("--list", stderr=theirs, PIP_SECONDS="0.7")
    os.close(theirs)
    process.communicate(timeout=60)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert process.returncode == 0
    assert clone.calls()[-1].startswith("-m;mmlib;run;--list;")
    assert re.search(r"about two minutes: [1-9]\d* s", shown)
    assert "unbound" not in shown


def test_a_failed_installation_is_told_and_made_anew_next_time(clone: Clone) -> None:
    code, output = clone.run(PIP_RC="1")
    assert code == 1
    assert "setting up failed at" in output
    assert clone.calls() == installs(clone.root)[:2]
    assert clone.run("setup")[0] == 0
    assert clone.calls() == installs(clone.root)


def test_changed_pins_or_a_moved_folder_install_anew(clone: Clone) -> None:
    clone.run("setup")
    (clone.root / "requirements.lock").write_text("torch==2\n")
    clone.calls()
    clone.run("setup")
    assert clone.calls() == installs(clone.root)
    moved = clone.root.with_name("moved")
    clone.root.rename(moved)
    clone.run("setup", root=moved)
    assert clone.calls() == installs(moved)


def test_two_at_once_install_once_and_both_run(clone: Clone) -> None:
    both = [clone.start(PIP_SECONDS="0.5") for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    calls = clone.calls()
    assert calls[:3] == installs(clone.root)
    assert [c.split(";")[:3] for c in calls[3:]] == [["-m", "mmlib", "run"]] * 2
    assert sum("waiting for another" in output for output in outputs) == 1


def test_tests_run_with_one_thread_in_the_root_and_then_the_notebooks_at_smoke(
    clone: Clone,
) -> None:
    assert clone.run("test")[0] == 0
    where = f"cwd={clone.root};threads=1"
    assert clone.calls()[3:] == [
        f"-m;pytest;-n;2;--dist;loadfile;--no-loadscope-reorder;{where};profile=;",
        "-m;pytest;-n;2;--dist;loadscope;-p;no:cacheprovider;--nbval-lax;--nbval-current-env;"
        f"notebooks/01.ipynb;{where};profile=smoke;",
    ]
    assert clone.run("test", "-k", "a or b")[0] == 0
    assert clone.calls() == [f"-m;pytest;-k;a or b;{where};profile=;"]


@pytest.mark.parametrize("failing", ["RUN_RC", "NBVAL_RC"])
def test_a_failure_of_either_half_of_the_tests_is_a_failure(clone: Clone, failing: str) -> None:
    code, _ = clone.run("test", **{failing: "1"})
    assert code != 0
    assert len(clone.calls()) == 5


def test_help_needs_no_set_up_and_passes_through_once_there_is_one(clone: Clone) -> None:
    code, output = clone.run("--help")
    assert code == 0
    assert all(
        word in output for word in ("./run_all.sh setup", "./run_all.sh test", "MMLIB_PYTHON")
    )
    assert clone.calls() == []
    clone.run("setup")
    clone.calls()
    clone.run("--help")
    assert [c.split(";")[:4] for c in clone.calls()] == [["-m", "mmlib", "run", "--help"]]


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ("case $1 in --version) echo Python 3.9.1 ;; *) exit 1 ;; esac", "Python 3.9.1 is too old"),
        (
            'case "$1 $2" in --version*) echo Python 3.12.0 ;; *ensurepip*) exit 1 ;; esac',
            "lacks venv or pip",
        ),
        ("exit 127", "no Python at"),
    ],
)
def test_an_unfit_python_is_refused_in_words(clone: Clone, answers: str, words: str) -> None:
    clone.python(f"#!/usr/bin/env bash\n{answers}\n", "unfit")
    code, output = clone.run(MMLIB_PYTHON=str(clone.bin / "unfit"))
    assert code != 0
    assert words in output
    assert "MMLIB_PYTHON=" in output
    assert clone.calls() == []


def test_an_unfit_python_first_in_the_path_is_passed_over(clone: Clone) -> None:
    (clone.bin / "python3").rename(clone.bin / "python3.13")
    clone.python("#!/usr/bin/env bash\nexit 127\n")
    assert clone.run("setup")[0] == 0
    assert clone.calls() == installs(clone.root)


def test_the_doctor_prints_a_line_for_each_check(capsys: pytest.CaptureFixture[str]) -> None:
    code = doctor.main([])
    lines = capsys.readouterr().out.splitlines()
    assert code == any(line.startswith("FAIL") for line in lines)
    assert all(line.split()[0] in ("ok", "warn", "FAIL") for line in lines)
    named = {line.split()[1] for line in lines}
    assert named == {
        "python",
        "packages",
        "device",
        "threads",
        "memory",
        "disk",
        "write",
        "kernel",
        "twins",
        "data",
    }


def test_the_doctor_fails_on_a_package_that_differs_or_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "requirements.lock").write_text("# pins\nnumpy==0.0.1\nno-such-package==1.0\n")
    monkeypatch.setenv("MMLIB_HOME", str(tmp_path))
    assert doctor.main() == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")]
    assert len(failed) == 2
    assert f"numpy is {metadata.version('numpy')}, the lock has 0.0.1" in failed[0]
    assert "no-such-package is missing" in failed[1]
    assert all("./run_all.sh setup" in line for line in failed)


def test_pins_for_another_system_do_not_concern_this_one(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text(
        'numpy==1.0\nnone==2.0 ; python_version == "2.7"\nhere==3.0 ; python_version >= "3"\n'
    )
    assert doctor.read_lock(lock) == {"numpy": "1.0", "here": "3.0"}


def test_a_local_build_of_the_pinned_version_is_the_pinned_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("torch==9.9.9\n")
    monkeypatch.setattr(metadata, "version", lambda name: "9.9.9+local")
    assert [check.status for check in doctor.check_packages(lock)] == ["ok"]


def test_the_doctor_fails_where_results_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert doctor.check_writable(tmp_path / "file" / "runs").status == "FAIL"
    assert doctor.check_writable(tmp_path / "new" / "runs").status == "ok"
    assert not (tmp_path / "new").exists()


def test_the_doctor_fails_where_the_embedded_data_cannot_be_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(reference: str) -> None:
        raise ValueError("planted")

    monkeypatch.setattr("mmlib.data.catalog.open_bundle", broken)
    check = doctor.check_twin()
    assert check.status == "FAIL"
    assert "planted" in check.finding
