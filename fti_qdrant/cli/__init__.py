"""The commands fti-search, fti-demo and fti-eval, and the options that all commands share."""
