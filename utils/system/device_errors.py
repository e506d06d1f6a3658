"""Telling what a device such as a GPU raises from other errors, and saying it in a few words."""

import torch

_WORDS = ("CUDA error", "CUDA driver error", "CUDA out of memory", "CUBLAS_STATUS", "CUDNN_STATUS", "cuDNN error")
_MOST_SAID = 200  # characters: PyTorch adds whole paragraphs of advice


def is_device_error(error: BaseException) -> bool:
    """Whether a device has failed, or has too little memory: nothing that any code can be blamed for."""
    if isinstance(error, torch.OutOfMemoryError | torch.AcceleratorError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)


def describe_device_error(error: BaseException) -> str:
    """The first sentence of what PyTorch says, for a sentence in brackets."""
    first = str(error).strip().partition("\n")[0].split(". ")[0].rstrip(".")
    return " ".join(f"{type(error).__name__}: {first}".split())[:_MOST_SAID].removesuffix(":")
