"""Sends each item of a list to another API, and gives the answers in the same order."""

import os
from concurrent.futures import ThreadPoolExecutor

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

AT_ONCE = 5  # items under way; the other API grows to as many replicas, if its configuration lets it
NOT_YET = (502, 503, 504)  # a replica has died, there is too much to do, or an item took too long


class PythonPredictor:
    def __init__(self, config):
        self.url = f"{os.environ['CORTEX_OPERATOR_ENDPOINT']}/{config['api']}"
        retries = Retry(total=60, backoff_factor=0.5, backoff_max=10, status_forcelist=NOT_YET, allowed_methods=None)
        self.session = requests.Session()
        self.session.mount("http://", HTTPAdapter(pool_maxsize=AT_ONCE, max_retries=retries))
        if "CORTEX_API_KEY" in os.environ:
            self.session.headers["Authorization"] = f"Bearer {os.environ['CORTEX_API_KEY']}"

    def predict(self, payload):
        with ThreadPoolExecutor(AT_ONCE) as executor:
            return list(executor.map(self.classify, payload))

    def classify(self, item):
        response = self.session.post(self.url, json=item)
        response.raise_for_status()
        print(f"classified as {response.text}")
        return response.text
