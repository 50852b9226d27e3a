"""Who runs Workers: an engine places their processes. It never carries Batches."""
