"""Energy meters, one file each, found through the entry-point group ``pytest_llem.meters``."""
