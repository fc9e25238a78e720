"""`python -m tm_export.models.synthesize`."""

import sys

from tm_export.models.synthesize.write import main

sys.exit(main())
