"""Realtime APIs: their replicas, the queue of requests before these, and how many of them there are."""
