"""Train a logistic regression on 150 irises, and write it as a SavedModel: the folder `model`."""

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_iris

MEASUREMENTS = ("sepal_length", "sepal_width", "petal_length", "petal_width")
STEPS = 2000
RATE = 0.1


class Classifier(tf.Module):
    """Four measurements of each iris in, the number of its species out."""

    def __init__(self):
        super().__init__()
        self.weights = tf.Variable(tf.zeros([len(MEASUREMENTS), 3]))
        self.bias = tf.Variable(tf.zeros([3]))

    def scores(self, rows):
        return rows @ self.weights + self.bias

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name) for name in MEASUREMENTS])
    def classify(self, *measurements):
        return {"class_ids": tf.argmax(self.scores(tf.stack(measurements, axis=1)), axis=1)}


def main():
    irises = load_iris()
    rows, species = irises.data.astype(np.float32), irises.target
    model = Classifier()
    for _ in range(STEPS):
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(species, model.scores(rows))
            loss = tf.reduce_mean(losses)
        for variable, gradient in zip(model.variables, tape.gradient(loss, model.variables), strict=True):
            variable.assign_sub(RATE * gradient)
    right = (model.classify(*rows.T)["class_ids"].numpy() == species).sum()
    print(f"trained on {len(species)} irises, {right} of them classified correctly")
    tf.saved_model.save(model, "model", signatures=model.classify)


if __name__ == "__main__":
    main()
