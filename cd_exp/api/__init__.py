"""The package as a library: what people hold goes in, labels that show themselves come out.

result = dissect(net, images="photos/", words=["cat", "dog"], clip="vit_b_16", layers=["layer4"])
result.labels["layer4"].to_frame()              # the columns of labels.csv
result.save("my_run")                           # the run folder that the command line writes
"""

from cd_exp.api.call import dissect
from cd_exp.api.result import LayerLabels, Result

__all__ = ["LayerLabels", "Result", "dissect"]
