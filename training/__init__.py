"""Training: OSS-Instruct data, packed sequences, and finetuning."""

import os

# Threads that spin while they wait make training many times slower beside any other busy process;
# OpenMP reads this when torch is loaded. Alone on the machine it costs nothing (measured).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
