"""Networks without audio meaning."""

from difffx.networks.film import Conditioner, FiLM
from difffx.networks.tcn import CausalBlock, MultiRateTCN, weight_count

__all__ = ["CausalBlock", "Conditioner", "FiLM", "MultiRateTCN", "weight_count"]
