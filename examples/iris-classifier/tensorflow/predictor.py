"""Name the species of irises by their measurements."""

LABELS = ("setosa", "versicolor", "virginica")


class TensorFlowPredictor:
    def __init__(self, tensorflow_client, config):
        self.client = tensorflow_client

    def predict(self, payload):
        return LABELS[self.client.predict(payload)["class_ids"][0]]
