"""Models in this process: language models that write and score text, and embedders, on the torch worker.

Only `tokens`, `chat` and what runs on the worker's thread import torch or transformers, and only there.
"""
