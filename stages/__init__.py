"""The stages that ship with the program: one file each, found by the name that a manifest gives them."""
