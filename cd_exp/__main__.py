"""`python -m cd_exp`: the same as the installed `cd-exp`."""

from cd_exp.cli.entry import run_program

if __name__ == "__main__":
    run_program()
