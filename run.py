"""From a checkout: `python run.py [group=choice ...] [key=value ...]`; the same as the installed `cd-exp`."""

from cd_exp.cli.entry import main

if __name__ == "__main__":
    main()
