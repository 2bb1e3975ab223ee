"""`python -m cd_exp.settings`: the page of all settings, for `docs/settings.md`."""

from cd_exp.settings.documentation import page

if __name__ == "__main__":
    print(page(), end="")
