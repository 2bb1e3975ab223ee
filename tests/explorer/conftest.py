import pytest
from browsing import browser
from made_runs import made_content

from cd_exp.explorer import find_page, write_pages

LAYERS = {"layer4.1.act2": 120, "fc": 150}


@pytest.fixture(scope="session")
def content(tmp_path_factory):
    return made_content(LAYERS, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def page(content, tmp_path_factory):
    return write_pages(tmp_path_factory.mktemp("page"), find_page({"made": content}, title="made"))


@pytest.fixture(scope="session")
def window(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(autouse=True)
def as_usual(request):
    """Every browser test begins with a laptop's window in light colours."""
    if "window" in request.fixturenames:
        window = request.getfixturevalue("window")
        window.size(1280, 860)
        window.scheme("light")
        window.complaints()
