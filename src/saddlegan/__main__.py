"""`python -m saddlegan`, and so `torchrun -m saddlegan`: the command line."""

from saddlegan.workbench.cli import main

if __name__ == "__main__":
    main()
