"""`python -m magicoder` is the `magicoder` command."""

from magicoder.cli import main

main()
