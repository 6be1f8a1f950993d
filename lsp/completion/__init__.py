"""Inline completions: small stages, each timed, and the engine that runs them."""
