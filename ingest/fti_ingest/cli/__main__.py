"""``python -m fti_ingest.cli``."""

from fti_ingest.cli.main import main

main()
