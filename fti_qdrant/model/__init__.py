"""The frozen CLIP, the inverter that writes pseudo-words for it, and the prompts between them."""
