"""Rows of CSV, JSONL and Parquet files, one after the other; a bad row is one string."""
