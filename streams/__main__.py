"""`python -m streams` is the command `verteiler`."""

from streams.cli import main

main()
