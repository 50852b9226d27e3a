"""Name the species of irises by their measurements."""

import joblib

MEASUREMENTS = ("sepal_length", "sepal_width", "petal_length", "petal_width")
LABELS = ("setosa", "versicolor", "virginica")


class PythonPredictor:
    def __init__(self, config):
        self.model = joblib.load(config["model"])

    def predict(self, payload):
        return LABELS[self.model.predict([[payload[name] for name in MEASUREMENTS]])[0]]
