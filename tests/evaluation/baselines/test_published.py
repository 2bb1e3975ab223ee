from pathlib import Path

import hydra
import numpy as np
import pytest
from omegaconf import OmegaConf

from cd_exp import probes
from cd_exp.errors import InputError
from cd_exp.evaluation.baselines import published
from cd_exp.evaluation.baselines.published import read_published_labels

REFERENCE = Path(__file__).parents[3] / "../shared/reference"
CONFIG = Path(__file__).parents[3] / "conf/baseline/published.yaml"
FILES = sorted(path for path in REFERENCE.rglob("*.csv") if path.parent.name != "human_ratings")

TALLY = "unit,category,label,score,color-label\n1,scene,sea-s,0.5,blue-c\n2,object,,,red-c\n3,part,leg,.25,red-c\n"


@pytest.fixture
def written(tmp_path):
    def write(text: str, name: str = "labels.csv") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_labels_by_layer_and_unit(written):
    path = written('layer,unit,description,similarity\nfc,1,sea,0.5\nfc,0,"tench, Tinca tinca",\nconv1,0,red,0.1\n')
    labels = published(path).labels()
    assert list(labels) == ["fc", "conv1"]
    assert labels["fc"].layer == "fc"
    assert labels["fc"].units.tolist() == [0, 1]
    assert labels["fc"].descriptions == ("tench, Tinca tinca", "sea")
    np.testing.assert_array_equal(labels["fc"].similarity, [np.nan, 0.5])
    assert labels["fc"].ranks is None


def test_without_similarity(written):
    labels = published(written("layer,unit,description\nfc,0,\nfc,1,Green grass\n")).labels()["fc"]
    assert labels.top == ((), ("Green grass",))
    assert np.isnan(labels.similarity).all()


def test_a_tally_counts_from_one(written):
    labels = published(written(TALLY), layer="fc").labels({"fc": 3})["fc"]
    assert labels.units.tolist() == [0, 1, 2]
    assert labels.top == (("sea-s",), (), ("leg",))
    np.testing.assert_array_equal(labels.similarity, [0.5, np.nan, 0.25])


def test_invert_and_falcon(written):
    invert = written("neuron,concept,concept_id,metric\n0,tench,n01,0.99\n2,goldfish,n02,0.9\n")
    labels = published(invert, layer="fc").labels()["fc"]
    assert (labels.units.tolist(), labels.descriptions, labels.similarity.tolist()) == (
        [0, 2],
        ("tench", "goldfish"),
        [0.99, 0.9],
    )
    falcon = written(
        "group,Unnamed: 0,concept_set_words,concept_set_noun_phrases\n"
        "7,7,\"[('key', 0.4)]\",\"[('grand piano', 0.3), ('keys', 0.2)]\"\n9,9,[],[]\n"
    )
    labels = published(falcon, layer="layer4").labels()["layer4"]
    assert labels.units.tolist() == [7, 9]
    assert labels.top == (("grand piano", "keys"), ())
    np.testing.assert_array_equal(labels.similarity, [0.3, np.nan])


def test_one_layer_of_several_and_renamed_ones(written):
    path = written("layer,unit,description\nsubset,0,sea\nfc,0,sky\n")
    assert list(published(path, layer="fc").labels()) == ["fc"]
    assert published(path, rename={"subset": "norm"}).labels()["norm"].layer == "norm"
    assert list(published(path, rename={"subset": "norm"}, layer="norm").labels()) == ["norm"]
    assert list(published(path).labels({"fc": 1, "layer4": 9})) == ["fc"]


def test_a_file_for_each_layer(written):
    first, second = written(TALLY, "a.csv"), written("layer,unit,description\nfc,0,sea\nconv1,0,red\n", "b.csv")
    read_labels = published({"layer4": str(first), "fc": str(second)}).labels()
    assert {layer: len(labels.units) for layer, labels in read_labels.items()} == {"layer4": 3, "fc": 1}


def test_spreadsheet_files_are_read(written):
    path = written("\ufefflayer,unit,description\r\nfc,0,sea\r\n\r\nfc,1,café\r\n")
    assert published(path).labels()["fc"].descriptions == ("sea", "café")


def test_the_config_binds(written):
    config = OmegaConf.load(CONFIG)
    del config["defaults"]
    config.path = str(written(TALLY))
    config.layer = "layer4"
    baseline = hydra.utils.instantiate(config, _convert_="all")
    assert baseline.labels({"layer4": 3})["layer4"].descriptions == ("sea-s", "", "leg")


def refused(match: str):
    return pytest.raises(InputError, match=match)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "labels.csv is empty; expected a header and a line for each unit"),
        ("layer,unit,description\n", "labels.csv has no line below 'layer,unit,description'; expected a header and"),
        ("\nlayer,unit,description\nfc,0,sea\n", "labels.csv: line 1 is blank; expected the header there"),
        ("layer,unit,description,unit\nfc,0,sea,1\n", "labels.csv has two columns 'unit'; rename one, or take it out"),
        ("layer,unit,description\n,0,sea\n", "labels.csv, line 2: the layer is blank; name it there"),
        ("Layer,unit,description\nfc,0,sea\n", "labels.csv has a column 'Layer'; call it 'layer', or take it out"),
        (
            "layer,unit,description,similarity\nfc,0,sea,-inf\n",
            "line 2: score '-inf' is no finite number; leave it blank",
        ),
        ("layer,unit,description,similarity\nfc,0,sea,1_0\n", "line 2: score '1_0' is no finite number"),
        (
            "layer,unit,weight0,concept0,concept1\nfc,0,.7,cat,dog\n",
            "line 2: weight1 of 'dog' is ''; expected a number, 0 where it is unused",
        ),
        ("layer,unit,weight0,concept0\nfc,0,nan,cat\n", "line 2: weight0 of 'cat' is 'nan'; expected a number"),
        ("layer,unit,weight0,concept0\nfc,0,.5,\n", "line 2: concept0 of weight .5 is blank; give it a name"),
        ("layer,group,concept_set_noun_phrases\nfc,0,\"{('sea', 0.5)}\"\n", r"expected a list of \(phrase, score\)"),
        ('layer,group,concept_set_noun_phrases\nfc,0,"[(None, 0.5)]"\n', r"expected a list of \(phrase, score\)"),
        ("layer,group,concept_set_noun_phrases\nfc,0,\"[('sea', None)]\"\n", "score 'None' is no finite number"),
        (
            "layer,unit,label\nfc,0,sea\n",
            "labels.csv has no column '(description|score)' but layer,unit,label; expected one",
        ),
        (
            "a,b\n1,2\n",
            "labels.csv has no column 'layer' but a,b; expected one of: layer,unit,description; unit,label,score",
        ),
        (
            "layer,unit,description\nfc,one,sea\n",
            "labels.csv, line 2: 'one' is no unit; expected a whole number from 0",
        ),
        ("layer,unit,description\nfc,0,sea\nfc,-1,sea\n", "labels.csv, line 3: '-1' is no unit"),
        ("layer,unit,description\nfc,1.0,sea\n", "'1.0' is no unit"),
        ("layer,unit,description\nfc,99999999999999999999,sea\n", "'99999999999999999999' is no unit"),
        ("layer,unit,description\nfc,0,tench, Tinca tinca\n", "labels.csv, line 2: not the 3 columns .* quote labels"),
        ("layer,unit,description\nfc,0\n", "labels.csv, line 2: not the 3 columns"),
        ("layer,unit,description\nfc,0,sea\nfc,0,sky\n", "labels.csv labels unit 0 of fc twice"),
        ("layer,unit,description,similarity\nfc,0,sea,high\n", "labels.csv, line 2: score 'high' is no finite number"),
        (
            'layer,unit,description\nfc,0,"sea\n',
            "labels.csv cannot be read as a file of labels: unexpected end of data",
        ),
    ],
)
def test_bad_files_are_refused_by_name(written, text, message):
    with refused(message):
        published(written(text)).labels()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("unit,label,score\n0,sea,1\n", "line 2: '0' is no unit; expected a whole number from 1"),
        ("unit,label,score\n1,sea,1\n4,sea,1\n", "labels.csv is a tally of layer4 without unit 2, one of 2 missing"),
        (
            "layer,group,concept_set_noun_phrases\nfc,0,sea\n",
            r"labels.csv, line 2: expected a list of \(phrase, score\), as in",
        ),
        (
            "layer,group,concept_set_noun_phrases\nfc,0,[1]\n",
            r"labels.csv, line 2: expected a list of \(phrase, score\), as in",
        ),
    ],
)
def test_bad_files_without_layers(written, text, message):
    with refused(message):
        published(written(text), layer="layer4").labels()


def test_a_tally_needs_a_layer_and_all_its_units(written):
    path = written(TALLY)
    with refused("labels.csv does not say which layer it labels; give it, as in baseline.layer=fc"):
        published(path).labels()
    with refused("labels.csv is a tally of 3 units, but fc has 365"):
        published(path, layer="fc").labels({"fc": 365})
    with refused("labels.csv labels unit 2 of fc, which has units 0 to 1"):
        published(path, layer="fc").labels({"fc": 2})


def test_layers_that_do_not_meet(written):
    path = written("layer,unit,description\nlayer4,0,sea\n")
    with refused("layer 'layer5' is not in .*labels.csv; did you mean 'layer4'"):
        published(path, layer="layer5").labels()
    with refused("labels.csv labels layer4 and no layer of this run, fc; name the same one with baseline.rename"):
        published(path).labels({"fc": 3})
    with refused("layer 'fc' stands beside a file for each layer"):
        published({"fc": str(path)}, layer="fc")


def test_missing_and_unreadable_files(tmp_path):
    with refused("nowhere.csv cannot be read as a file of labels: No such file"):
        published(tmp_path / "nowhere.csv").labels()
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with refused("binary.csv is not UTF-16: line 1, byte 3 is 0x00; save it as UTF-8"):
        published(tmp_path / "binary.csv").labels()


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.skipif(not FILES, reason="../shared/reference is absent")
def test_every_published_file_is_read():
    counts = {}
    for path in FILES:
        layer = None if "layer," in path.read_text()[:8] else "fc"
        read_labels = read_published_labels(path, layer=layer)
        assert all(all(labels.top) for labels in read_labels.values())
        counts[path.relative_to(REFERENCE).as_posix()] = sum(len(labels.units) for labels in read_labels.values())
    assert len(counts) == 87
    assert counts["linear_explanations/ours/LE_label/resnet50_imagenet_layer4.csv"] == 2048
    assert counts["CLIP_Dissect_results/resnet50_imagenet_broden.csv"] == 3904
    assert counts["CLIP_Dissect_results/resnet18_places_imagenet_broden.csv"] == 1024
    assert counts["MILAN_results/m_base_resnet50_imagenet.csv"] == 4904  # fc too
    assert counts["NetDissect_results/resnet18_places365_fc.csv"] == 365
    assert counts["cosy/explanations/INVERT/vit_b_16-features.csv"] == 768
    assert counts["cosy/explanations/FALCON/resnet18-layer4.csv"] == 50


@pytest.mark.shared
@pytest.mark.skipif(not FILES, reason="../shared/reference is absent")
def test_the_five_layers_of_resnet50():
    units = {"conv1": 64, "layer1": 256, "layer2": 512, "layer3": 1024, "layer4": 2048}
    read_labels = published(REFERENCE / "CLIP_Dissect_results/resnet50_imagenet_broden.csv").labels(units)
    assert {layer: len(labels.units) for layer, labels in read_labels.items()} == units
    assert read_labels["conv1"].descriptions[0] == "red"
    tallies = {name: REFERENCE / f"NetDissect_results/resnet50_imagenet_{name}.csv" for name in list(units)[1:]}
    assert sum(len(labels.units) for labels in published(tallies).labels(units).values()) == 3840


def test_a_layer_that_is_renamed_has_to_be_there(written):
    path = written("layer,unit,description\nfeatures,0,sea\nfc,0,red\n")
    with pytest.raises(InputError, match=r"baseline.rename of layer 'feature' is not in the files.*'features'"):
        published(path, rename={"feature": "layer4"}).check(probes.shapes(size=2))
    with pytest.raises(
        InputError, match=r"baseline.rename to layer 'layer5' is not in this run; did you mean 'layer4'"
    ):
        published(path, rename={"features": "layer5"}).labels({"layer4": 1, "fc": 1})
    mended = published(path, rename={"features": "layer4"})
    mended.check(probes.shapes(size=2))
    assert set(mended.labels({"layer4": 1, "fc": 1})) == {"layer4", "fc"}


def test_labels_without_a_layer_take_the_one_that_is_set(written):
    path = written("unit,description,sim correlation\n0,ivtools,0.17\n1,signage,0.2\n")
    with pytest.raises(InputError, match=r"does not say which layer it labels; give it, as in baseline\.layer=fc"):
        published(path).labels()
    labels = published(path, layer="layer4").labels()["layer4"]
    assert labels.descriptions == ("ivtools", "signage")
    assert np.isnan(labels.similarity).all()


LINEAR = """{layer}unit,val correlation,weight0,concept0,weight1,concept1,weight2,concept2,bias
{of}0,0.31,0.73,toiletry,0.7,"lab coat, white",0,0,0.3
{of}47,0.34,0.36,artifact,0,0,0,0,0.4
"""


@pytest.mark.parametrize(("head", "of", "layer"), [("layer,", "layer4,", None), ("", "", "layer4")])
def test_linear_explanations_hold_a_concept_for_each_weight(written, head, of, layer):
    labels = published(written(LINEAR.format(layer=head, of=of)), layer=layer).labels()["layer4"]
    assert labels.units.tolist() == [0, 47]
    assert labels.top == (("toiletry", "lab coat, white"), ("artifact",))
    np.testing.assert_allclose(labels.similarity, [0.73, 0.36])


@pytest.mark.parametrize(
    ("text", "top"),
    [
        ("Neuron ID,label\n0,fishing\n2,\n", (("fishing",), ())),
        (
            "Neuron ID,Label 1,Label 2,Label 3\n6,patterns,,\n17,indoor,outdoor,indoor\n",
            (("patterns",), ("indoor", "outdoor")),
        ),
    ],
)
def test_describe_and_dissect(written, text, top):
    assert published(written(text), layer="fc").labels()["fc"].top == top


@pytest.mark.parametrize(
    "header", ["layer,unit,label,score", "layer,neuron,concept,metric", "Neuron ID,label,score,layer"]
)
def test_a_column_of_layers_goes_before_the_layer_that_is_set(written, header):
    first = int(header.endswith("label,score"))
    rows = [{"layer": layer, "unit": first, "neuron": 0, "Neuron ID": 0, "score": 0.5, "metric": 0.5,
             "label": f"of {layer}", "concept": f"of {layer}"} for layer in ("conv", "fc")]  # fmt: skip
    text = "\n".join([header, *(",".join(str(row[name]) for name in header.split(",")) for row in rows)])
    assert published(written(text), layer="fc").labels()["fc"].descriptions == ("of fc",)
    assert set(published(written(text)).labels()) == {"conv", "fc"}
    with refused("layer 'layer4' is not in .*labels.csv"):
        published(written(text), layer="layer4").labels()


def test_two_layers_are_not_renamed_into_one(written):
    path = written("layer,unit,description\nconv,0,sea\nfc,1,sky\n")
    with refused("baseline.rename makes 'fc' of layer 'conv' and of 'fc'; give each a name of its own"):
        published(path, rename={"conv": "fc"}).labels()


@pytest.mark.parametrize(
    ("text", "top", "score"),
    [
        ("unit,weight1,concept1,weight0,concept0\n0,.2,b,.7,a\n", ("a", "b"), 0.7),
        ("unit,weight0,concept0,weight1,concept1\n0,0,a,-.2,b\n", ("b",), -0.2),
        ("Neuron ID,Label 10,Label 2,Label 1,Label score\n0,c,b,a,.5\n", ("a", "b", "c"), np.nan),
        ("group,concept_set_noun_phrases\n0,\"[(' a ', 0.5), ('b', 0.2), ('a', 0.1)]\"\n", ("a", "b"), 0.5),
    ],
)
def test_labels_go_by_the_numbers_of_their_columns_and_stand_once(written, text, top, score):
    labels = published(written(text), layer="fc").labels()["fc"]
    assert labels.top == (top,)
    np.testing.assert_equal(labels.similarity, [score])


def test_a_table_of_a_spreadsheet_in_utf_16_is_read(written):
    path = written("")
    path.write_bytes("layer,unit,description\nfc,0,caf\u00e9\n".encode("utf-16"))
    assert published(path).labels()["fc"].descriptions == ("caf\u00e9",)


def test_a_column_of_layers_is_called_so_or_taken_out(written):
    with refused("has a column 'Layer'; call it 'layer', or take it out and set baseline.layer"):
        published(written("Layer,unit,description\nfc,0,sea\n"), layer="fc").labels()
    for text, layer in (("layer,unit,description\nfc,0,sea\n", None), ("unit,description\n0,sea\n", "fc")):
        assert published(written(text), layer=layer).labels()["fc"].descriptions == ("sea",)
