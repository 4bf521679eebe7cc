"""Benchmarks of composed image retrieval: their data, protocols, measures and results."""
