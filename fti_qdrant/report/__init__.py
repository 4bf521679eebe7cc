"""HTML pages: contact sheets of queries with results, and the report of a benchmark run."""
