"""coremltools is imported without what it does not need here, which others can still import."""

import subprocess
import sys

PROGRAM = """
import sys
from tm_export.runtime.coremltools_alone import coremltools
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


def test_the_engines_of_core_ml_bring_no_more() -> None:
    """The reference engine's own files import coremltools, too: what leaves out the rest must come first."""
    code = (
        "import sys; from tm_export.runtime.engines import engines_for; engines_for('coreml'); "
        "print(sorted({'executorch', 'sklearn', 'torchao', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]"]
