"""``python -m fti_qdrant.cli.evaluate`` is ``fti-eval``."""

from fti_qdrant.cli.evaluate import main

if __name__ == "__main__":
    main()
