"""The command line of a script."""

import argparse


def make_parser(docstring: str | None) -> argparse.ArgumentParser:
    """Return a parser; `--help` shows the docstring of the script as it is."""
    return argparse.ArgumentParser(
        description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter
    )
