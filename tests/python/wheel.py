"""Makes a wheel of texts: python wheel.py FOLDER NAME VERSION < {"path": "text", ...}; prints where it is."""

import json
import os
import sys
import zipfile

folder, name, version = sys.argv[1:]
about = "%s-%s.dist-info" % (name, version)
files = json.load(sys.stdin)
files[about + "/METADATA"] = "Metadata-Version: 2.1\nName: %s\nVersion: %s\n" % (name, version)
files[about + "/WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
files[about + "/RECORD"] = "".join("%s,,\n" % path for path in [*files, about + "/RECORD"])
wheel = os.path.join(folder, "%s-%s-py3-none-any.whl" % (name, version))
with zipfile.ZipFile(wheel, "w") as archive:
    for path, text in files.items():
        archive.writestr(zipfile.ZipInfo(path), text)
print(wheel)
