"""Lets torchvision be imported where its C library cannot be loaded.

On Linux, package indexes have its wheels for CUDA only, and beside the CPU build of torch their library does not load.
The import then fails, because it describes an operator of that library. Networks and transforms need none of them: it
is enough that the names are known.
"""

from importlib.util import find_spec
from pathlib import Path

import torch

torchvision = find_spec("torchvision")
try:
    for library in Path(torchvision.origin).parent.glob("_C*.so"):
        torch.ops.load_library(library)
except OSError:
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
