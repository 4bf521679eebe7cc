"""One run of ``fti-ingest``: the pipeline, its outcome, and the files that it leaves."""
