"""`python -m in2n_blender …`: works under any Python 3, so that one too old gets a sentence and no traceback."""

import sys


def main():
    if sys.version_info < (3, 11):
        sys.stderr.write(
            "in2n_blender needs Python 3.11 or 3.13, Blender's own versions; this is Python %d.%d.\n"
            "  Run python3.11 -m in2n_blender ...\n" % sys.version_info[:2]
        )
        return 2
    from .cli.main import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
