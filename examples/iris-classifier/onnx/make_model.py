"""Train a logistic regression on 150 irises, and write it as model.onnx."""

from pathlib import Path

from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression


def main():
    irises = load_iris()
    model = LogisticRegression(max_iter=1000).fit(irises.data, irises.target)
    right = (model.predict(irises.data) == irises.target).sum()
    print(f"trained on {len(irises.target)} irises, {right} of them classified correctly")
    # Probabilities as an array, not as dictionaries; old versions of the format, which every onnxruntime reads.
    exported = to_onnx(
        model,
        initial_types=[("measurements", FloatTensorType([None, 4]))],
        options={"zipmap": False},
        target_opset={"": 15, "ai.onnx.ml": 3},
    )
    Path("model.onnx").write_bytes(exported.SerializeToString())


if __name__ == "__main__":
    main()
