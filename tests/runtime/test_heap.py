"""A program that is started anew with huge pages is the same program."""

import os
import platform
import subprocess
import sys

import pytest

CODE = """
import os, sys
from tm_export.runtime.heap import restart_with_huge_pages
print("started", flush=True)
restart_with_huge_pages()
print(os.environ.get("GLIBC_TUNABLES"), sys.argv, flush=True)
sys.exit(3)
"""


CHOSEN = "glibc.malloc.check=0"
# Another C library has no such setting: the program goes on as it was started.
UNSET = ("glibc.malloc.hugetlb=1", 2) if platform.libc_ver()[0] == "glibc" else (None, 1)


@pytest.mark.parametrize(("chosen", "setting", "starts"), [(None, *UNSET), (CHOSEN, CHOSEN, 1)])
def test_a_program_restarts_once_with_its_arguments(chosen: str | None, setting: str | None, starts: int) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    if chosen:
        environment["GLIBC_TUNABLES"] = chosen
    command = [sys.executable, "-c", CODE, "a b", "--c"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "started\n" * starts + f"{setting} ['-c', 'a b', '--c']\n", done.stderr
    assert done.returncode == 3
