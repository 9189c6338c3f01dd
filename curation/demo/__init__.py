"""Small corpora whose captions can be checked, and the judges that check what a model made of them."""
