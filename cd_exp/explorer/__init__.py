"""Pages to look at every unit of a run: static files that open from a folder, without a server or a network.

collect(run, dissection, outcome, ...)     # what the pages hold
write(folder, page_of({name: content}))    # folder/explorer/index.html
read(folder)                               # what a stored explorer holds, to make its pages again
"""

from cd_exp.explorer.collect import collect
from cd_exp.explorer.page import clear, page_of, read, runs_of, write
from cd_exp.explorer.payload import Content, labels_alone
from cd_exp.explorer.text_queries import ask

__all__ = ["Content", "ask", "clear", "collect", "labels_alone", "page_of", "read", "runs_of", "write"]
