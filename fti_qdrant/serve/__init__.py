"""Composed search over HTTP: an API and a page over any gallery. Needs fti-qdrant[serve]."""
