"""The steps of the pipeline: plain callables on Arrow tables."""
