"""What to ingest, and its bytes: folders, manifests, archives, here or at a URI."""
