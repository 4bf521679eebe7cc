"""Captions of images, split into subject and attributes for the tri-wise loss."""

DEFAULT_MODEL = "Salesforce/blip-image-captioning-base"
