"""``python -m dfpipe.cli`` is the ``dfpipe`` command."""

from dfpipe.cli import main

if __name__ == "__main__":
    main()
