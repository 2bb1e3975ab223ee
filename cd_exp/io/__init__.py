"""Files and names: downloads, the hub, whole files and text. It knows no settings and no tensors."""
