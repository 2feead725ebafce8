"""Packages that cannot share this project's environment, laid over it for one program in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

APART = {
    # Old enough to import without the libraries of CUDA that a build of torch for CPUs lacks.
    "mds": ("mosaicml-streaming==0.13.0", "torchvision==0.16.2", "boto3", "botocore", "s3transfer", "jmespath",
            "Brotli", "zstd", "python-snappy", "cramjam", "catalogue"),
    "lance": ("pylance==14.0.2", "lance-namespace==0.13.0", "lance-namespace-urllib3-client==0.13.0"),
    "litdata": ("litdata==0.2.76", "obstore", "tifffile", "boto3", "botocore", "s3transfer", "jmespath"),
}  # fmt: skip
"""Packages of each kind, of which nothing that they depend on is installed besides."""


def laid_over(kind: str, folder: Path) -> Path:
    """The folder, with the packages of a kind; the test skips where no registry has them."""
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *APART[kind]]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"pip install {' '.join(APART[kind])} failed: {done.stderr[-300:]}")
    return folder


def run_apart(program: str, packages: Path, folder: Path) -> str:
    """What a program prints that finds these packages first, in a folder."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(packages), *filter(None, sys.path)])}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
