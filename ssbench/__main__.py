"""`python -m ssbench`."""

from ssbench.cli import main

main()
