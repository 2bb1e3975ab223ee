"""What the columns are: units of layers, latents of an autoencoder, directions, or columns of a file.

`units=layers` leaves a network's layers as they are. `sae` and `directions` put an encoder on the output of one layer,
position by position, before it is pooled. `matrix` takes activations from files, and no network is built.
"""

from cd_exp.units.activation_matrix import ActivationMatrix
from cd_exp.units.units import EncodedLayer, Layers, Units, as_units, directions, sae

__all__ = ["ActivationMatrix", "EncodedLayer", "Layers", "Units", "as_units", "directions", "sae"]
