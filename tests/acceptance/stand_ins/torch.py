"""As much of torch as the tutorial's predictor asks for, on numpy."""

from contextlib import nullcontext

import numpy as np


class Tensor:
    def __init__(self, values):
        self.values = values

    def max(self, axis):
        return self.values.max(axis), self.values.argmax(axis)


def stack(tensors):
    return Tensor(np.stack([tensor.values for tensor in tensors]))


no_grad = nullcontext
