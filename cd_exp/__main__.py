"""`python -m cd_exp`: the same as the installed `cd-exp`."""

from cd_exp.cli.entry import main

if __name__ == "__main__":
    main()
