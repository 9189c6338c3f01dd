import subprocess
import sys


def test_torchvision_imports_after_the_mend() -> None:
    """In a process of its own, since the mend is made once per process, before the import."""
    code = (
        "from curation.models.torchvision_mend import mend, native_library_loads\n"
        "needed = not native_library_loads()\n"
        "assert mend() is needed\n"
        "assert mend() is needed\n"
        "import torchvision, torchvision.transforms\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
