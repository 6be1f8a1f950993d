"""Instruct tools: problems, solutions, explanations, fixes, documentation, tests, refactorings."""
