"""`python -m k2_cli`: the same as the command `k2`. `k2 up` starts its exchange this way."""

from k2_cli.main import run

if __name__ == "__main__":
    run()
