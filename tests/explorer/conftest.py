import pytest
from made_runs import made_content

from cd_exp.explorer import find_page, write_pages

LAYERS = {"layer4.1.act2": 120, "fc": 150}


@pytest.fixture(scope="session")
def content(tmp_path_factory):
    return made_content(LAYERS, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def page(content, tmp_path_factory):
    return write_pages(tmp_path_factory.mktemp("page"), find_page({"made": content}, title="made"))
