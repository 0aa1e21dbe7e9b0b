"""A cluster that is there already: reached by its context, changed only after somebody has confirmed that by name."""
