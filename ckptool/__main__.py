"""`python -m ckptool`: the command line tool."""

from ckptool.cli import main

if __name__ == "__main__":
    main()
