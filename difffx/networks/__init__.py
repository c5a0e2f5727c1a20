"""Networks without audio meaning."""

from difffx.networks.film import Conditioner, FiLM
from difffx.networks.frame_convolutions import FrameConvolutions
from difffx.networks.rnn import FrameLSTM
from difffx.networks.tcn import CausalBlock, MultiRateTCN, weight_count
from difffx.networks.transformer import FrameTransformer

__all__ = [
    "CausalBlock",
    "Conditioner",
    "FiLM",
    "FrameConvolutions",
    "FrameLSTM",
    "FrameTransformer",
    "MultiRateTCN",
    "weight_count",
]
