"""Files, crops, and the actors that make training batches."""
