"""Benchmarks of composed image retrieval, and the data they ask about."""
