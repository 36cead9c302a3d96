"""`python -m fastifo`: the same command line as `fastifo`."""

from fastifo.cli.main import main

if __name__ == "__main__":
    main()
