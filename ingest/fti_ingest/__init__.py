"""``fti-ingest``: Ray workers embed image collections into Qdrant galleries."""
