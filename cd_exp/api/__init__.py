"""The package as a library: what people hold goes in, labels that show themselves come out.

found = dissect(net, images="photos/", words=["cat", "dog"], clip="vit_b_16", layers=["layer4"])
found.labels["layer4"].to_frame()               # the columns of labels.csv
found.save("my_run")                            # the run folder that the command line writes
"""

from cd_exp.api.call import dissect
from cd_exp.api.result import LayerLabels, Result

__all__ = ["LayerLabels", "Result", "dissect"]
