"""The commands of ``fti-train``, one module each."""
