"""coremltools is imported without what it does not need here, which others can still import."""

import subprocess
import sys

PROGRAM = """
import sys
from tm_export.runtime.engines.coremltools_alone import coremltools
hidden = ("executorch", "sklearn", "torchao", "transformers")
print(coremltools.__version__, *(name for name in hidden if name in sys.modules))
import executorch.exir
import transformers
print(executorch.exir.__name__, transformers.__name__)
"""


def test_coremltools_comes_alone_and_hides_nothing_for_good() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first == "9.0"
    assert second == "executorch.exir transformers"
