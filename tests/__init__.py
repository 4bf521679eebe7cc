"""A package, so that it is found before one of this name that another distribution installs."""
