"""As much of torchvision as the tutorial's predictor asks for; its network knows images by their brightness."""

import numpy as np
from torch import Tensor

SHADES = 16


class AlexNet:
    def eval(self):
        return self

    def __call__(self, images):
        red = images.values[:, 0] * 0.229 + 0.485  # what the predictor's `normalize` has made of it
        shades = (red.mean(axis=(1, 2)) * SHADES).astype(int)
        return Tensor(np.eye(1000)[shades])


class models:  # noqa: N801 - it stands for a module
    @staticmethod
    def alexnet(*, pretrained):
        assert pretrained
        return AlexNet()


class transforms:  # noqa: N801 - it stands for a module
    @staticmethod
    def Compose(steps):  # noqa: N802
        def run(image):
            for step in steps:
                image = step(image)
            return image

        return run

    @staticmethod
    def Resize(size):  # noqa: N802
        return lambda image: image.resize((size, size))

    @staticmethod
    def CenterCrop(size):  # noqa: N802
        return lambda image: image.crop((16, 16, 16 + size, 16 + size))

    @staticmethod
    def ToTensor():  # noqa: N802
        return lambda image: Tensor(np.asarray(image, np.float32).transpose(2, 0, 1) / 255)

    @staticmethod
    def Normalize(*, mean, std):  # noqa: N802
        shape = (3, 1, 1)
        return lambda image: Tensor((image.values - np.reshape(mean, shape)) / np.reshape(std, shape))
