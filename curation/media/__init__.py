"""One picture: bytes to pixels in a child process, to a bucket's shape, and what is measured on them."""
