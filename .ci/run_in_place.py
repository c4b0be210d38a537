"""What pip is told to build this project with: nothing. The challenge fixes top-level names such as
`src`, `dataset` and `train`, which have no business among everyone's installed packages."""

MESSAGE = (
    "this project is not installed, it runs from its folder: "
    "pip install -r requirements.txt, then python train.py (or make demo) in it"
)


def refuse(*_, **__):
    """Each step that pip or another installer may ask for."""
    raise SystemExit(f"error: {MESSAGE}")


get_requires_for_build_wheel = get_requires_for_build_editable = get_requires_for_build_sdist = (
    refuse
)
build_wheel = build_editable = build_sdist = refuse
