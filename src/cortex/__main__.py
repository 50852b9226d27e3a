"""`python -m cortex`: the command line where no script is on the PATH."""

from cortex.cli.main import main

if __name__ == "__main__":
    main()
