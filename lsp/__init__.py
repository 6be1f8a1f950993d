"""The language server: inline completions and instruct tools for any editor."""
