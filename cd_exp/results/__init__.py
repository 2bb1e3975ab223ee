"""What a run leaves for a reader: files, a table in the terminal, figures and one page.

write(folder, outcome, manifest=manifest)           # labels.csv, metrics.json, manifest.json ...
figures(folder, outcome)                            # figures/*.png
page(folder, outcome, manifest=manifest)            # report.html, with the figures of the folder
show(console, outcome, folder)                      # the table a terminal user sees
as_frame(labels)                                    # the columns of labels.csv as a table of pandas
"""

from cd_exp.results.html import write_report
from cd_exp.results.labels_csv import make_frame
from cd_exp.results.plots import draw_figures
from cd_exp.results.run_folder import write_run_files
from cd_exp.results.terminal import show_results

__all__ = ["draw_figures", "make_frame", "show_results", "write_report", "write_run_files"]
