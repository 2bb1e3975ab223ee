"""A conformance kit: classes to subclass in a test file, and a corpus of inputs and outputs in plain files.

    from cd_exp.testing import SimilarityTests

    class TestSharpened(SimilarityTests):
        @pytest.fixture
        def function(self):
            return functools.partial(sharpened, power=2)

pytest then runs every test of the base class on what the fixture gives. Needs the extra `testing`.
"""

from cd_exp.testing.judges import JudgeTests, LabellerTests, small_run
from cd_exp.testing.probes import ProbeTests
from cd_exp.testing.similarities import CorpusCase, SimilarityTests, check_case, draw_world, read_corpus

__all__ = [
    "CorpusCase",
    "JudgeTests",
    "LabellerTests",
    "ProbeTests",
    "SimilarityTests",
    "check_case",
    "draw_world",
    "read_corpus",
    "small_run",
]
