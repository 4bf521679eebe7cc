"""``python -m fti_training.cli``."""

from fti_training.cli.main import main

main()
