"""Spiking networks for event data, trained through time with surrogate gradients (Shymyrbay, Fouda & Eltawil 2023).

Needs the extra ``qat`` (torch). Weights go through the differentiable quantisation function of `intsnn.models.qat`;
what comes out is an integer `intsnn.network.spiking.Network` in HDF5. Only `recipes` can be imported without torch.
"""
