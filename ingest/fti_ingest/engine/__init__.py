"""Who runs the stages: this process, or a Ray cluster."""
