"""The worker: runs beside the engine and meters it. Standard library only at import.

It is sent to where the engine is (``bootstrap``), answers over standard input and output
(``__main__``), and its processes end with whoever started it (``lifeline``).
"""
