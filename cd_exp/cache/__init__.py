"""Features on disk under content-addressed keys: stored once, shared by every run, never reused for anything else.

An entry is a folder named by the hash of everything that changes its numbers; it holds one file of numbers (opened
memory-mapped where it is an array) and `manifest.json`, which says in words what was hashed. Long entries are made
shard by shard: a finished shard survives a kill, and the next run continues from it. Nothing appears under its final
name before it is complete, and everything read back is checked.

    python -m cd_exp.cache list | verify | prune   [--dir DIR]
"""

from cd_exp.cache.entries import Damaged, Entry, hash_file, hide_option_secrets, make_key, read_sealed_json, seal_json
from cd_exp.cache.partial import PartialArray, PartialResults
from cd_exp.cache.store import Store

__all__ = [
    "Damaged",
    "Entry",
    "PartialArray",
    "PartialResults",
    "Store",
    "hash_file",
    "hide_option_secrets",
    "make_key",
    "read_sealed_json",
    "seal_json",
]
