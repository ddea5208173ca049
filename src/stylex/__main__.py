"""`python -m stylex`: the way in for torchrun."""

from stylex.cli import main

main()
