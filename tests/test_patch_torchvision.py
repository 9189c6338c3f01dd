import subprocess
import sys


def test_torchvision_imports_after_the_patch() -> None:
    """In a process of its own, since the patch is made once per process, before the import."""
    code = (
        "from curation.models.patch_torchvision import patch_torchvision, native_library_loads\n"
        "needed = not native_library_loads()\n"
        "assert patch_torchvision() is needed\n"
        "assert patch_torchvision() is needed\n"
        "import torchvision, torchvision.transforms\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_earlier_name_is_the_same_function() -> None:
    from curation.models.patch_torchvision import patch_torchvision
    from curation.models.torchvision_mend import mend

    assert mend is patch_torchvision
