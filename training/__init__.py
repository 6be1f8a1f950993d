"""Training: OSS-Instruct data, packed sequences, and finetuning."""
