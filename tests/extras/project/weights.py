"""Stands in for the download of the network's weights, and tells what the network makes of images."""

import io
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import torch
from PIL import Image
from torchvision.models import AlexNet_Weights, alexnet


class PythonPredictor:
    def __init__(self, config):
        torch.manual_seed(0)
        self.network = alexnet(weights=None).eval()
        weights = AlexNet_Weights.IMAGENET1K_V1
        self.transform = weights.transforms(antialias=True)
        file = Path(torch.hub.get_dir(), "checkpoints", Path(weights.url).name)
        file.parent.mkdir(parents=True)
        torch.save(self.network.state_dict(), file)
        self.s3 = boto3.client("s3")

    def predict(self, payload):
        return [self.classify(url) for url in payload]

    def classify(self, url):
        address = urlsplit(url)
        image = self.s3.get_object(Bucket=address.netloc, Key=address.path[1:])["Body"].read()
        with torch.no_grad():
            scores = self.network(self.transform(Image.open(io.BytesIO(image)))[None])
        return int(scores.argmax())
