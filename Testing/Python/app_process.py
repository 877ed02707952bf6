"""``braingen app`` in a process of its own, for tests."""

import os
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

# What the server says when it ends: whether machine learning was in its process.
_PROGRAM = """
import sys
from BrainGenLib.cli import app
try:
    app(sys.argv[1:])
finally:
    print("torch imported:", "torch" in sys.modules, flush=True)
"""


@contextmanager
def serving_app(bundles, log_path):
    """Process and address of it on a free port, with the bundles of a folder."""
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"BRAINGEN_BUNDLES": str(bundles), "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    kept = log_path.with_name("kept")
    with log_path.open("w") as log:
        process = subprocess.Popen(
            # An address that others could reach: all that follows goes through the token.
            [sys.executable, "-c", _PROGRAM, "app", "--host=0.0.0.0", "--port=0", "--threads=1", f"--results={kept}"],
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            text=True,
        )
    try:
        line = next((line for line in process.stdout if "runs at" in line), "")
        assert line, log_path.read_text(encoding="utf-8")
        yield process, re.sub("//[^:]+:", "//127.0.0.1:", line.split()[-1])
    finally:
        process.kill()
        process.wait()
