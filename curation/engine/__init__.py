"""Where work runs: through Ray, or in this process and children of it. Knows no phase.

`ray_engine` and the other modules called `ray_*` are the only files that know Ray.
"""
