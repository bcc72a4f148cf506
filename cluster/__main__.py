"""`python -m cluster` is `cactus`: for a child process that must run the same Python."""

from cluster.entry import main

main()
