"""Network Dissection: name each unit after the annotated concept whose pixels it lights up.

A unit's mask is where its activation map, upsampled to the annotation, exceeds the threshold T with P(a > T) = 0.005
over all positions of all probe images. Its label is the concept with the highest intersection over union (IoU):

    IoU[u, c] = sum_x |M_u(x) & L_c(x)| / sum_x |M_u(x) | L_c(x)|

with masks M_u of the unit and L_c of the concept, where x runs over the images that carry any concept of c's category.
`method` walks the images, `overlap` holds the arithmetic, `tally` what comes out and its file.

Source: Bau et al., Network Dissection (CVPR 2017, arXiv:1704.05796) and Understanding the role of individual units in a
deep neural network (PNAS 2020, arXiv:2009.05041).
"""

from cd_exp.evaluation.baselines.netdissect.method import (
    NetDissect,
    Passes,
    Tally,
    count_detectors,
    format_tally,
    label_from_tally,
    netdissect,
)

__all__ = ["NetDissect", "Passes", "Tally", "count_detectors", "format_tally", "label_from_tally", "netdissect"]
