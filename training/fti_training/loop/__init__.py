"""The training loop that every command shares: updates, checkpoints, logs."""
