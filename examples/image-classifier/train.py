"""Make what the example works on: 1,797 images of handwritten digits, and a model trained on three quarters of them.

images/train/0000-label-0.png    the model has seen these
images/test/0005-label-5.png     and these it has not
model.onnx
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

HERE = Path(__file__).parent
SIDE = 64  # of an image, in pixels; the digits come as 8 x 8
BRIGHTEST = 16  # of a digit's grey values


def main():
    digits = load_digits()
    numbers = np.arange(len(digits.target))
    train, test = train_test_split(numbers, test_size=0.25, stratify=digits.target, random_state=0)

    for part, members in (("train", train), ("test", test)):
        folder = HERE / "images" / part
        folder.mkdir(parents=True, exist_ok=True)
        for number in members:
            pixels = (digits.images[number] / BRIGHTEST * 255).astype(np.uint8)
            image = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.NEAREST)
            image.save(folder / f"{number:04}-label-{digits.target[number]}.png")
    print(f"made {len(numbers)} images in images/")

    model = MLPClassifier(hidden_layer_sizes=(128,), max_iter=500, random_state=0)
    inputs = (digits.data / BRIGHTEST).astype(np.float32)
    model.fit(inputs[train], digits.target[train])
    print(
        f"trained on {len(train)} images, accuracy on the {len(test)} others: "
        f"{model.score(inputs[test], digits.target[test]):.3f}"
    )

    # Written last: a model.onnx means that everything is there.
    onnx.save(as_onnx(model), HERE / "model.onnx")


def as_onnx(model):
    """Write the trained network as an ONNX model: rows of 64 pixels in, the probabilities of the ten digits out."""
    (weights_1, weights_2), (bias_1, bias_2) = model.coefs_, model.intercepts_
    constants = {"weights_1": weights_1, "bias_1": bias_1, "weights_2": weights_2, "bias_2": bias_2}
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["pixels", "weights_1", "bias_1"], ["sums"]),
            helper.make_node("Relu", ["sums"], ["hidden"]),
            helper.make_node("Gemm", ["hidden", "weights_2", "bias_2"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
        ],
        "digits",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["images", 64])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["images", 10])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    # Old versions of the format on purpose: every onnxruntime reads them.
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(made)
    return made


if __name__ == "__main__":
    main()
