"""The command lines: fti-search and fti-demo."""
