"""Whether a bar is met, as every table of the benchmarks says it."""


def verdict(met: bool) -> str:
    """For a rich table."""
    return "[green]yes[/green]" if met else "[red]no[/red]"
