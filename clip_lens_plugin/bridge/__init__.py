"""CLIP and SigLIP as TransformerLens's ``TransformerBridge``."""
