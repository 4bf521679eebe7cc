"""``fti-train import``: the authors' pickled checkpoint -> an inverter in safetensors and JSON."""
