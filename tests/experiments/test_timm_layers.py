"""A sample of the survey of timm's modules: the units lie on the axis that is pooled to, or the module is refused."""

import pytest

from experiments.timm_layers import survey

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("architecture", "other_axis", "refused"),
    [
        ("resnet18", False, False),
        ("convnext_atto", False, False),  # maps, channels first and last
        ("cait_xxs24_224", False, False),  # the class token joins late
        ("mobilevit_xxs", True, False),  # patches of several pictures on the first axis
        ("mixer_s32_224", False, False),  # rows of channels
        ("levit_128s", True, True),  # a linear layer on a flattened batch; 196 and 256 are both grids
        ("deit_tiny_distilled_patch16_224", False, True),  # norms over each head
    ],
)
def test_every_module_is_read_on_its_known_axis_or_refused(architecture, other_axis, refused):
    rows = survey.survey(architecture)
    assert rows.wrong == []
    assert rows.right > rows.modules / 5
    assert bool(rows.other_axis) == other_axis
    assert bool(rows.refused) == refused
    assert len(rows.refused) <= 0.1 * (rows.modules - rows.other_axis)
    assert rows.refused_blocks == []


def test_the_table_has_a_line_an_architecture(tmp_path, capsys):
    (tmp_path / "families.txt").write_text("test_vit\n\ntest_resnet\n")
    survey.main([str(tmp_path / "families.txt"), "--only", "test_resnet", "--out", str(tmp_path / "table.md")])
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines[-1].startswith("| test_resnet | ")
    assert len(lines) == 3
    assert "| test_resnet |" in capsys.readouterr().out
