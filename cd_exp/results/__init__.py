"""What a run leaves for a reader: files, a table in the terminal, figures and one page.

write(folder, outcome, manifest=manifest)           # labels.csv, metrics.json, manifest.json ...
figures(folder, outcome)                            # figures/*.png
page(folder, outcome, manifest=manifest)            # report.html, with the figures of the folder
show(console, outcome, folder)                      # the table a terminal user sees
as_frame(labels)                                    # the columns of labels.csv as a table of pandas
"""

from cd_exp.results.html import page
from cd_exp.results.labels_csv import as_frame
from cd_exp.results.plots import figures
from cd_exp.results.run_folder import write
from cd_exp.results.terminal import show

__all__ = ["as_frame", "figures", "page", "show", "write"]
