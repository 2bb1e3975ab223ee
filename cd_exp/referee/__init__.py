"""Labellers side by side: runs, files of labels and published tables of scores, under the same judges."""

from cd_exp.referee.published_scores import Agreement, ScoreTable, lay_beside, read_score_table
from cd_exp.referee.referee import Refereed, referee

__all__ = ["Agreement", "Refereed", "ScoreTable", "lay_beside", "read_score_table", "referee"]
