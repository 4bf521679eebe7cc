"""The options of commands whose model runs in workers; see ``fti_qdrant.cli.worker_options``."""

from fti_qdrant.cli.worker_options import engine_option, ray_address_option, worker_options

__all__ = ["engine_option", "ray_address_option", "worker_options"]
