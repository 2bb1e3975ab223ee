"""Pages to look at every unit of a run: static files that open from a folder, without a server or a network.

collect(run, dissection, outcome, ...)     # what the pages hold
write(folder, page_of({name: content}))    # folder/explorer/index.html
read(folder)                               # what a stored explorer holds, to make its pages again
"""

from cd_exp.explorer.collect import collect_pages
from cd_exp.explorer.page import find_page, list_runs, read_pages, remove_old_pages, write_pages
from cd_exp.explorer.payload import PageContent, describe_labels_only
from cd_exp.explorer.text_queries import TextQuery, run_text_query

__all__ = [
    "PageContent",
    "TextQuery",
    "collect_pages",
    "describe_labels_only",
    "find_page",
    "list_runs",
    "read_pages",
    "remove_old_pages",
    "run_text_query",
    "write_pages",
]
