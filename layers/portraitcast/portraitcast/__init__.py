"""Portraitcast: a portrait and a voice in an S3 bucket become a talking video.

Pure rules and thin adapters that the three functions share. The handlers are in `functions/`, the stack is
`template.yaml`.
"""
