"""One file per command. Each defines one function; `saddlegan.workbench.cli` registers it in one line.

These modules are imported for every `saddlegan --help`: they import numpy, torch and pictures inside their functions.
"""
