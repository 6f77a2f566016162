def about():
    """What decides which packages this interpreter can use. Runs in every Python 3, in a kernel too."""
    import os
    import platform
    import sys
    import sysconfig

    try:
        libc = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
    except (AttributeError, OSError, ValueError):
        libc = []
    return {
        "implementation": platform.python_implementation(),
        "version": platform.python_version(),
        "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        "debug": hasattr(sys, "gettotalrefcount"),
        "soabi": sysconfig.get_config_var("SOABI") or "",
        "platform": sysconfig.get_platform(),
        "glibc": libc[1] if len(libc) == 2 and libc[0] == "glibc" else "",
    }
