"""`python -m cd_exp.settings`: the page of all settings, in Markdown."""

from cd_exp.settings.documentation import page

if __name__ == "__main__":
    print(page(), end="")
