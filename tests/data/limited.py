"""Code in a child process with limits on memory and time, which says what it took."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PRELUDE = """
import json, resource, sys, time
{imports}
resource.setrlimit(resource.RLIMIT_CPU, ({cpu}, {cpu}))
base = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (base + {memory}, base + {memory}))
def peak():
    # Not getrusage: its peak includes what the parent held when it forked.
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
"""


def in_child(
    body: str,
    *arguments: str,
    imports: str = "",
    cpu: int = 60,
    memory: int = 10**9,
    timeout: int = 240,
) -> Any:
    """What the body prints last, as JSON. It may take ``cpu`` seconds and ``memory`` bytes beyond its imports."""
    code = PRELUDE.format(
        imports=textwrap.dedent(imports), cpu=cpu, memory=memory
    ) + textwrap.dedent(body)
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])
