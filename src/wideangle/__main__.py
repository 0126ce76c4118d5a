"""``python -m wideangle``: the command line."""

from wideangle.cli import main

if __name__ == "__main__":
    main()
