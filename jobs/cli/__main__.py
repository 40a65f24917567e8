"""`python -m jobs.cli`: the same as the `billing` command."""

from jobs.cli import main

if __name__ == "__main__":
    main()
