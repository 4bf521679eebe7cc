"""The options of commands whose model runs in workers; see ``fti_qdrant.cli.worker_options``."""

from fti_qdrant.cli.worker_options import worker_options

__all__ = ["worker_options"]
