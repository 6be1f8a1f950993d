"""The inference server: a vLLM plugin for infilling, and the launcher that starts vLLM with it."""
