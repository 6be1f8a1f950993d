"""What became of the completions that were shown: a local log, off by default."""
