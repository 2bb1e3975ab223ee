"""What a run leaves for a reader: files, a table in the terminal, figures and one page.

write_run_files(folder, outcome, manifest=manifest) # labels.csv, metrics.json, manifest.json ...
draw_figures(folder, outcome)                       # figures/*.png
write_report(folder, outcome, manifest=manifest)    # report.html, with the figures of the folder
show_results(console, outcome, folder)              # the table a terminal user sees
show_job(console, outcome, name)                    # one line of a job of a sweep
show_query(console, words, units)                   # the units that match a phrase best
make_frame(labels)                                  # the columns of labels.csv as a table of pandas
"""

from cd_exp.results.html import write_report
from cd_exp.results.labels_csv import make_frame
from cd_exp.results.plots import draw_figures
from cd_exp.results.run_folder import write_run_files
from cd_exp.results.terminal import show_job, show_query, show_results

__all__ = ["draw_figures", "make_frame", "show_job", "show_query", "show_results", "write_report", "write_run_files"]
