"""`python -m lmforge_operator`."""

import sys

from lmforge_operator.main import main

sys.exit(main())
