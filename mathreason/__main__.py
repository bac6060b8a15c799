"""`python -m mathreason` is the `mathreason` command."""

from mathreason.cli.main import main

main()
