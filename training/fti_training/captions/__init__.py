"""Captions of images, split into subject and attributes: what the tri-wise loss learns from."""

DEFAULT_MODEL = "Salesforce/blip-image-captioning-base"
