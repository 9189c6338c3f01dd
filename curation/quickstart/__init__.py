"""The quickstart corpus: photos that packages ship, drawn scenes, and defects planted in known numbers."""
