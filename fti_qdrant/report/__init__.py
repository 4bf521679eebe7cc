"""Pages to look at: contact sheets of queries and their hits."""
