"""The section `arithmetics` of params.yaml: a section for each value of `arithmetic`."""

from imgpipe.core.schema import Count, Section


class Exact(Section):
    """Equal bytes on every processor; there is nothing to set."""


class Native(Section):
    """The operations of Keras."""

    threads: Count


class Arithmetics(Section):
    """The settings of each arithmetic, by its name."""

    exact: Exact
    native: Native
