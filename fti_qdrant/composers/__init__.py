"""Composers: (reference features, modification text) -> query vectors."""
