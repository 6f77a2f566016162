"""pip of an environment that nb keeps: `python -m pip` hands over to nb, which uses uv."""
