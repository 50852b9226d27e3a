"""Name the species of irises by their measurements."""

MEASUREMENTS = ("sepal_length", "sepal_width", "petal_length", "petal_width")
LABELS = ("setosa", "versicolor", "virginica")


class ONNXPredictor:
    def __init__(self, onnx_client, config):
        self.client = onnx_client

    def predict(self, payload):
        # A request holds one iris. The payload of a batch is always a list, and gets a list with as many rows.
        if isinstance(payload, list):
            return self.classify(payload)
        return self.classify([payload])[0]

    def classify(self, irises):
        numbers, _ = self.client.predict([[iris[name] for name in MEASUREMENTS] for iris in irises])
        return [LABELS[number] for number in numbers]
