"""The commands of ``fti-ingest``, one module each."""
