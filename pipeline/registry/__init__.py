"""The model registry: self-contained models, their cards, who may be champion, and how they travel."""
