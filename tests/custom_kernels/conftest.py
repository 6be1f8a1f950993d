import os

# Triton decides at its import whether kernels are interpreted: test_interpreter.py starts these
# tests in a process of their own.
collect_ignore = [] if os.environ.get("TRITON_INTERPRET") == "1" else ["interpreted"]
