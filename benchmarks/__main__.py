"""`python -m benchmarks [--op OP] [--device cpu|cuda] [--dtype D] [--preset quick|paper] [--json FILE]`.

The same as `contrastkit bench-kernels`; what is measured stands in contrastkit/bench.py.
"""

import sys

from contrastkit.cli.main import main

sys.argv[1:1] = ["bench-kernels"]
sys.exit(main())
