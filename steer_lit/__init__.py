"""steer_lit: align Qwen2.5-VL against multi-turn attacks, on one GPU or a laptop (SaFeR-Steer, arXiv 2604.16358)."""

__version__ = "0.1.0"
